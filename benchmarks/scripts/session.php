<?php
// One session variable read and written per request.
session_start();
$visits = ($_SESSION["visits"] ?? 0) + 1;
$_SESSION["visits"] = $visits;
echo "visits: " . $visits;
