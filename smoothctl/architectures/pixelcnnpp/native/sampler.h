// What Python hands to the compiled sampler, and what it can call; see ../compiled.py.
#pragma once

#include <cstdint>

// A network: F filters, K mixtures. Arrays are contiguous.
struct Weights {
    int32_t channels, filters, blocks, scales, mixtures;
    int32_t layers;               // how many arrays there are
    const float *const *weights;  // (outputs, inputs) each, in the order of `read`
    const float *const *biases;   // (outputs,) each, or null
};

// Images to be filled in: N of C channels, H rows and W columns; R = H - first_row rows have noise.
struct Canvas {
    int32_t height, width;
    int32_t images;                // N
    int32_t levels;                // of the values; 0: real numbers
    int32_t known_images;          // N, or 1 where all share one mask
    int32_t first_row;             // the rows above it are known and have no noise
    float min_log_scale, noise;
    const int32_t *first_rows_up;  // (scales,): the first row that each scale's way up is needed at
    float *pixels;                 // (N, C, H, W): filled in where they are not known
    const uint8_t *known;          // (known_images, H, W)
    const float *gumbel;           // (R, W, N, K)
    const float *standard;         // (R, W, N, C)
    const float *centre;           // (N, C, R, W), or null
    const float *const *features;  // of each scale (its rows, its columns, N, F); or null
    const float *const *embedded;  // of each block's second layer (N, 2F); or null
};

// The sampler for one kind of processor. What `pack` and `begin` return is null where memory is short
// or layers are missing; `free` takes it.
struct Processor {
    const char *name;
    void *(*pack)(const Weights *weights, int32_t panel);  // vectors in a panel: see products.h
    void *(*begin)(const void *network, const Canvas *canvas, int32_t first, int32_t images);
    void (*row)(void *state, int32_t row);
    void (*free)(void *packed_or_state);
};
