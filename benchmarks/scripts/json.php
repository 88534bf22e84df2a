<?php
// An order comes as JSON, what it costs goes back as JSON.
$order = json_decode(file_get_contents("php://input"), true);
$total = 0;
foreach ($order["items"] as $item) {
    $total += $item["price"] * $item["count"];
}
header("Content-Type: application/json");
echo json_encode(["total" => $total, "count" => count($order["items"])]);
