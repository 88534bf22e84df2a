<?php
// Computes and does nothing else: the spectral norm of the Computer Language Benchmarks Game.
const N = 100;

function a($i, $j) {
    $ij = $i + $j - 1;
    return 1 / ($ij * ($ij - 1) * 0.5 + $i);
}

function times($x, $transposed) {
    $y = [];
    for ($i = 1; $i <= N; $i++) {
        $sum = 0;
        for ($j = 1; $j <= N; $j++) {
            $sum += $x[$j] * ($transposed ? a($j, $i) : a($i, $j));
        }
        $y[$i] = $sum;
    }
    return $y;
}

$u = array_fill(1, N, 1);
for ($turn = 1; $turn <= 10; $turn++) {
    $v = times(times($u, false), true);
    $u = times(times($v, false), true);
}
$vbv = $vv = 0;
for ($i = 1; $i <= N; $i++) {
    $vbv += $u[$i] * $v[$i];
    $vv += $v[$i] * $v[$i];
}
printf("%0.9f", sqrt($vbv / $vv));
