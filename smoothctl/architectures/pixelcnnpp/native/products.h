// Matrix products: of weights that were packed once, with inputs that lie in several places.
#pragma once

#include <cstddef>
#include <cstring>

#include "vectors.h"

namespace {

const int MOST_PARTS = 14;  // two halves of six taps and a skip

inline int padded(int count) { return (count + LANES - 1) / LANES * LANES; }

// Weights (outputs, parts * depth): panels of a few vectors of outputs, each contiguous along the
// inputs.
struct Matrix {
    int parts, depth, vectors, panel;
    float *weights, *bias;

    // Copies weights whose outputs come in groups, each of which is padded to whole vectors.
    void pack(const float *from, const float *offset, int groups, int size) {
        for (int first = 0; first < vectors; first += panel) {
            const int wide = (vectors - first < panel ? vectors - first : panel) * LANES;
            float *to = weights + (size_t)parts * depth * first * LANES;
            for (int j = 0; j < wide; j++) {
                const int output = first * LANES + j, group = output / padded(size);
                const int own = output - group * padded(size), source = group * size + own;
                if (own >= size) continue;
                bias[output] = offset ? offset[source] : 0.0f;
                for (int i = 0; i < parts * depth; i++)
                    to[(size_t)i * wide + j] = from[(size_t)source * parts * depth + i];
            }
        }
    }
};

// The rows that a product reads and writes; `inputs` has the first row of each part.
struct Rows {
    const float *inputs[MOST_PARTS];
    ptrdiff_t step;  // from row to row of each part
    float *outputs;
    ptrdiff_t outputs_step;
    bool add;        // to what is there
};

// One tile: a few rows, and a panel of a few vectors of outputs. Each sum runs over the inputs in
// their order, whatever the tile, so that an image does not depend on its batch.
template <int rows, int vectors>
void tile(const Matrix &matrix, const float *weights, const Rows &at, int row, int first) {
    Vector sums[rows][vectors];
    float *outputs = at.outputs + row * at.outputs_step + first * LANES;
    const Vector *bias = (const Vector *)(matrix.bias + first * LANES);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) {
            sums[r][v] = bias[v];
            if (at.add) sums[r][v] += ((const Vector *)(outputs + r * at.outputs_step))[v];
        }
    for (int part = 0; part < matrix.parts; part++) {
        const float *inputs = at.inputs[part] + row * at.step;
        for (int i = 0; i < matrix.depth; i++, weights += vectors * LANES) {
            const Vector *weight = (const Vector *)weights;
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) {
                const float input = inputs[r * at.step + i];
#pragma GCC unroll 8
                for (int v = 0; v < vectors; v++) sums[r][v] += input * weight[v];
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            ((Vector *)(outputs + r * at.outputs_step))[v] = sums[r][v];
}

typedef void Tile(const Matrix &, const float *, const Rows &, int, int);

// Tiles of 1 to 4 vectors by 1 to 12 / vectors rows: as many sums as stay in registers.
Tile *const TILES[5][7] = {
    {},
    {nullptr, tile<1, 1>, tile<2, 1>, tile<3, 1>, tile<4, 1>, tile<5, 1>, tile<6, 1>},
    {nullptr, tile<1, 2>, tile<2, 2>, tile<3, 2>, tile<4, 2>, tile<5, 2>, tile<6, 2>},
    {nullptr, tile<1, 3>, tile<2, 3>, tile<3, 3>, tile<4, 3>},
    {nullptr, tile<1, 4>, tile<2, 4>, tile<3, 4>},
};
const int MOST_ROWS[5] = {0, 6, 6, 4, 3};

inline void multiply(const Matrix &matrix, const Rows &at, int rows) {
    for (int first = 0; first < matrix.vectors; first += matrix.panel) {
        const int left = matrix.vectors - first, wide = left < matrix.panel ? left : matrix.panel;
        const float *weights = matrix.weights + (size_t)matrix.parts * matrix.depth * first * LANES;
        const int most = MOST_ROWS[wide];
        for (int row = 0; row < rows; row += most) {
            const int high = rows - row < most ? rows - row : most;
            TILES[wide][high](matrix, weights, at, row, first);
        }
    }
}

}  // namespace
