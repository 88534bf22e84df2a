<?php
// Waits for another one, as a script does that asks a database.
usleep(100000);
echo "Hello, world!";
