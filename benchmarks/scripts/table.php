<?php
// A page of the usual kind: a query string is parsed, 100 rows are escaped and put into a table.
function escape($text) {
    return strtr($text, ["&" => "&amp;", "<" => "&lt;", ">" => "&gt;", '"' => "&quot;"]);
}

$title = escape($_GET["title"] ?? "Rows & columns");
$page = "<!DOCTYPE html>\n<title>" . $title . "</title>\n<table>\n";
for ($row = 1; $row <= 100; $row++) {
    $page .= "<tr><td>" . $row . "</td><td>" . escape('<row "' . $row . '">') . "</td></tr>\n";
}
echo $page . "</table>\n";
