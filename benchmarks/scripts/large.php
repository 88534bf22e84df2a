<?php
// One megabyte in one piece: what the server does with a large body.
echo str_repeat("0123456789abcdef", 65536);
