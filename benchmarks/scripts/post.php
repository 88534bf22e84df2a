<?php
// The whole body is read.
echo strlen(file_get_contents("php://input"));
