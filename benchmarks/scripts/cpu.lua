-- Computes and does nothing else: the spectral norm of the Computer Language Benchmarks Game.
local N = 100

local function a(i, j)
  local ij = i + j - 1
  return 1 / (ij * (ij - 1) * 0.5 + i)
end

local function times(x, y, transposed)
  for i = 1, N do
    local sum = 0
    for j = 1, N do
      sum = sum + x[j] * (transposed and a(j, i) or a(i, j))
    end
    y[i] = sum
  end
end

local function norm()
  local u, v, t = {}, {}, {}
  for i = 1, N do u[i] = 1 end
  for _ = 1, 10 do
    times(u, t, false) times(t, v, true)
    times(v, t, false) times(t, u, true)
  end
  local vbv, vv = 0, 0
  for i = 1, N do
    vbv, vv = vbv + u[i] * v[i], vv + v[i] * v[i]
  end
  return string.format("%0.9f", math.sqrt(vbv / vv))
end

function main(env, con)
  Send(norm())
end
