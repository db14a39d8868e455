// Vectors of LANES numbers, and the few functions of them that a network needs.
#pragma once

#include <cstdint>

namespace {

typedef float Vector __attribute__((vector_size(4 * LANES), may_alias));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES), may_alias));

inline Vector larger(Vector a, Vector b) { return a > b ? a : b; }

// exp(x) for x clamped to [-87, 88], to 1e-7: 2^n by the exponent's bits, and Taylor's series for
// |r| <= ln(2) / 2. NaN stays NaN.
inline Vector exponential(Vector x) {
    const Vector zero = {}, lowest = zero - 87.0f, highest = zero + 88.0f;
    const float magic = 12582912.0f;  // 1.5 * 2^23: what is added to it loses its fraction
    x = x < lowest ? lowest : x;
    x = x > highest ? highest : x;
    const Vector shifted = x * 1.44269504088896341f + magic;
    const Vector n = shifted - magic;
    Vector r = x - n * 0.693145751953125f;  // ln 2 in two parts: n times the first is exact
    r = r - n * 1.42860682030941723e-6f;
    Vector y = r * (1.0f / 5040) + 1.0f / 720;
    y = y * r + 1.0f / 120;
    y = y * r + 1.0f / 24;
    y = y * r + 1.0f / 6;
    y = y * r + 0.5f;
    y = y * r + 1.0f;
    y = y * r + 1.0f;
    return y * (Vector)(((Bits)shifted << 23) + 0x3f800000u);
}

inline Vector sigmoid(Vector x) { return 1.0f / (1.0f + exponential(-x)); }

}  // namespace
