<?php
// 10 MB in pieces of 64 KB.
header("Content-Type: application/octet-stream");
$piece = str_repeat("0123456789abcdef", 4096);
for ($number = 1; $number <= 160; $number++) {
    echo $piece;
}
