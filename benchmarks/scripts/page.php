<?php
// A page of 64 KB in 2,000 pieces.
for ($row = 1; $row <= 2000; $row++) {
    echo sprintf("<li>row number %012d</li>\n", $row);
}
