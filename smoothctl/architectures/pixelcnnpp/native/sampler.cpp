// The cached sampler, compiled. It follows ../caches.py and ../samplers.py step by step: the vertical
// stream is computed a row at a time, the horizontal one a pixel at a time, or a row at a time where
// all pixels are known. Compiled once for each kind of processor, with LANES and PROCESSOR defined.

#include "sampler.h"

#include <cmath>
#include <cstdlib>

#include "products.h"

namespace {

const int MOST_BLOCKS = 16, MOST_SCALES = 8;

#ifdef __SANITIZE_ADDRESS__  // which then sees who leaves a piece of memory for the next one
extern "C" void __asan_poison_memory_region(const volatile void *, size_t);
const size_t GAP = 64;
void forbid(const char *begin, size_t size) { __asan_poison_memory_region(begin, size); }
#else
const size_t GAP = 0;
void forbid(const char *, size_t) {}
#endif

// Hands out zeroed memory piece by piece; without a beginning it only measures.
struct Memory {
    char *begin;
    size_t used;

    template <typename Type>
    Type *take(size_t count) {
        const size_t at = used, end = at + count * sizeof(Type);
        used = (end + 63) / 64 * 64 + GAP;
        if (!begin) return nullptr;
        forbid(begin + end, used - end);
        return (Type *)(begin + at);
    }
};

// Lays out an object of this type and all that it points to in one piece of memory, or returns null.
template <typename Type, typename Layout>
Type *allocate(Layout layout) {
    Type measured = {};
    Memory memory = {nullptr, 0};
    memory.take<Type>(1);
    layout(measured, memory);
    char *begin = (char *)aligned_alloc(64, memory.used);
    if (!begin) return nullptr;
    memset(begin, 0, memory.used);
    memory = {begin, 0};
    Type *object = memory.take<Type>(1);
    layout(*object, memory);
    return object;
}

int halved(int size) { return (size + 1) / 2; }

// ---- weights -----------------------------------------------------------------------------------

struct Block {
    Matrix in, out;                                // of the vertical stream
    Matrix above_in, now_in, above_out, now_out;   // of the horizontal one: the row above, this row
};

struct Scale {
    int blocks, before;  // how many blocks there are here, and at the scales before it
    Block block[MOST_BLOCKS];
};

struct Network {
    int channels, filters, scales, mixtures;
    Matrix stem_vertical, stem_above, stem_above_left, stem_left;
    Scale down[MOST_SCALES], up[MOST_SCALES];
    Matrix shrink_vertical[MOST_SCALES], shrink_above[MOST_SCALES], shrink_now[MOST_SCALES];
    Matrix grow_even[MOST_SCALES][2], grow_odd[MOST_SCALES][2], grow_horizontal[MOST_SCALES];
    Matrix out;
};

// Packs weights one after another, in panels of so many vectors.
struct Reader {
    const Weights &from;
    Memory &memory;
    int panel, layer;

    Matrix next(int parts, int depth, int groups, int size) {
        Matrix matrix = {parts, depth, groups * padded(size) / LANES, panel, nullptr, nullptr};
        const size_t outputs = (size_t)groups * padded(size);
        matrix.weights = memory.take<float>(parts * depth * outputs);
        matrix.bias = memory.take<float>(outputs);
        if (matrix.weights && layer < from.layers)
            matrix.pack(from.weights[layer], from.biases[layer], groups, size);
        layer++;
        return matrix;
    }
};

// The order of the weights: `_layers` of ../compiled.py lists them in the same one.
void read(Network &network, Reader &reader) {
    const Weights &from = reader.from;
    const int f = from.filters, scales = from.scales, pixel = from.channels + 1;
    network.channels = from.channels, network.filters = f;
    network.scales = scales, network.mixtures = from.mixtures;
    network.stem_vertical = reader.next(6, pixel, 1, f);
    network.stem_above = reader.next(3, pixel, 1, f);
    network.stem_above_left = reader.next(1, pixel, 1, f);
    network.stem_left = reader.next(1, pixel, 1, f);
    int before = 0;
    for (int upward = 0; upward < 2; upward++)
        for (int s = 0; s < scales; s++) {
            Scale &scale = upward ? network.up[s] : network.down[s];
            scale.blocks = from.blocks + (upward && s < scales - 1);
            scale.before = before;
            before += scale.blocks;
            for (int i = 0; i < scale.blocks; i++) {
                Block &block = scale.block[i];
                block.in = reader.next(upward ? 14 : 12, f, 1, f);
                block.out = reader.next(12, f, 2, f);
                block.above_in = reader.next(6, f, 1, f);
                block.now_in = reader.next(upward ? 6 : 4, f, 1, f);
                block.above_out = reader.next(4, f, 2, f);
                block.now_out = reader.next(4, f, 2, f);
            }
        }
    for (int s = 0; s < scales - 1; s++) {
        network.shrink_vertical[s] = reader.next(6, f, 1, f);
        network.shrink_above[s] = reader.next(2, f, 1, f);
        network.shrink_now[s] = reader.next(2, f, 1, f);
        for (int a = 0; a < 2; a++) {
            network.grow_even[s][a] = reader.next(1, f, 1, f);
            network.grow_odd[s][a] = reader.next(2, f, 1, f);
        }
        network.grow_horizontal[s] = reader.next(1, f, 4, f);
    }
    const int channels = from.channels;
    const int numbers = 1 + 2 * channels + channels * (channels - 1) / 2;
    network.out = reader.next(1, f, 1, from.mixtures * numbers);
}

// ---- what is kept between pixels ---------------------------------------------------------------

// Both streams of one scale, on the way down or up. Columns are padded by zeros at the ends; each
// column has all images, each image 2F activations or F numbers. e: activated inputs of the blocks,
// m: activated middles, h and o: sums so far of both layers.
struct Way {
    int blocks, width, now;
    bool upward;
    const Scale *scale;
    float *e_vertical[MOST_BLOCKS + 1], *m_vertical[MOST_BLOCKS];  // (2 rows, width + 2, n, 2F)
    float *e[MOST_BLOCKS + 1], *m[MOST_BLOCKS];                    // (width + 1, n, 2F)
    float *h[MOST_BLOCKS], *o[MOST_BLOCKS];                        // (width, n, F), (…, 2F)
};

struct Shrink {
    int now;
    float *vertical;  // (2 rows, width + 2, n, F)
    float *v;         // (width + 1, n, F)
    float *partial;   // (coarse width, n, F)
};

struct Grow {
    float *input;     // (coarse width + 1, n, F)
    float *vertical;  // (2 rows, even and odd columns, coarse width, n, F)
    float *fine;      // (coarse width, n, 2 rows · 2 columns, F)
};

struct State {
    const Network *network;
    const Canvas *canvas;
    int first, n, f;  // the first of the images, how many there are, filters with padding
    int width[MOST_SCALES];
    float *pixels;   // (H + 1, W + 2, n, C + 1)
    float *partial;  // (W, n, F)
    float *u, *v;    // a row of each stream: (W, n, F)
    float *h, *both, *activated, *parameters;
    Way down[MOST_SCALES], up[MOST_SCALES];
    Shrink shrink[MOST_SCALES];
    Grow grow[MOST_SCALES];

    void begin_row(int row);
    void pass(int row, int column, int count);
    void draw(int row, int column);
    bool known(int row, int column) const;

    void begin_vertical(int row);
    void add_features(int s, int row, float *partial);
    void vertical_row(Way &way, const Way *skips);
    void horizontal_begin(Way &way);
    void horizontal(Way &way, int column, int count, const Way *skips);
    void shrink_row(int s, bool even);
    void shrink_pixels(int s, int column, int count);
    void grow_row(int s);
    void grown_row(int s, int row);
    void grow_pixels(int s, int column, int count);
    void grown_pixels(int s, int row, int column, int count);
    void activate(const float *from, float *to, int rows) const;
    void gate(float *x, const float *both, int rows) const;
    void embed(const Way &way, int block, bool horizontal, float *both) const;

    size_t column(int c) const { return (size_t)c * n * f; }
    float *row_of(const Way &way, float *rows, int above) const {
        return rows + (size_t)(way.now ^ above) * column(way.width + 2) * 2;
    }
    int coarsest(int position) const {  // the coarsest scale that does something here: 2^s divides it
        int s = 0;
        while (s < network->scales - 1 && position % (2 << s) == 0) s++;
        return s;
    }
};

void lay_out(Way &way, Memory &memory, const State &state, const Scale &scale, int s, bool upward) {
    way.scale = &scale;
    way.blocks = scale.blocks;
    way.width = state.width[s];
    way.upward = upward;
    way.now = 0;
    const size_t row = state.column(way.width + 2) * 2;
    for (int i = 0; i <= way.blocks; i++) {
        way.e_vertical[i] = memory.take<float>(2 * row);
        way.e[i] = memory.take<float>(row);
    }
    for (int i = 0; i < way.blocks; i++) {
        way.m_vertical[i] = memory.take<float>(2 * row);
        way.m[i] = memory.take<float>(row);
        way.h[i] = memory.take<float>(row / 2);
        way.o[i] = memory.take<float>(row);
    }
}

void lay_out(State &state, Memory &memory, const Network &network, const Canvas &canvas, int first,
             int n) {
    state.network = &network;
    state.canvas = &canvas;
    state.first = first, state.n = n, state.f = padded(network.filters);
    state.width[0] = canvas.width;
    for (int s = 1; s < network.scales; s++) state.width[s] = halved(state.width[s - 1]);
    const size_t pixels = (size_t)(canvas.height + 1) * (canvas.width + 2) * n;
    state.pixels = memory.take<float>(pixels * (network.channels + 1));
    const size_t row = state.column(canvas.width + 2);
    state.partial = memory.take<float>(row);
    state.u = memory.take<float>(row);
    state.v = memory.take<float>(row);
    state.h = memory.take<float>(row);
    state.both = memory.take<float>(2 * row);
    state.activated = memory.take<float>(2 * row);
    state.parameters = memory.take<float>((size_t)n * network.out.vectors * LANES);
    for (int s = 0; s < network.scales; s++) {
        lay_out(state.down[s], memory, state, network.down[s], s, false);
        lay_out(state.up[s], memory, state, network.up[s], s, true);
        if (s == network.scales - 1) break;
        const size_t fine = state.column(state.width[s] + 2);
        const size_t coarse = state.column(state.width[s + 1] + 1);
        state.shrink[s] = {0, memory.take<float>(2 * fine), memory.take<float>(fine),
                           memory.take<float>(coarse)};
        state.grow[s] = {memory.take<float>(coarse), memory.take<float>(4 * coarse),
                         memory.take<float>(4 * coarse)};
    }
}

void State::activate(const float *from, float *to, int rows) const {  // concat-ELU: F -> 2F
    for (int row = 0; row < rows; row++, from += f, to += 2 * f)
        for (int i = 0; i < f; i += LANES) {
            const Vector x = *(const Vector *)(from + i), e = exponential(-larger(x, -x)) - 1.0f;
            *(Vector *)(to + i) = larger(x, e);
            *(Vector *)(to + f + i) = larger(-x, e);
        }
}

void State::gate(float *x, const float *both, int rows) const {  // x + a · sigmoid(b)
    for (int row = 0; row < rows; row++, x += f, both += 2 * f)
        for (int i = 0; i < f; i += LANES)
            *(Vector *)(x + i) +=
                *(const Vector *)(both + i) * sigmoid(*(const Vector *)(both + f + i));
}

// Lists both halves of an activation as parts of a product.
const float **halves(const float **parts, const float *activated, int f) {
    *parts++ = activated;
    *parts++ = activated + f;
    return parts;
}

// Adds the classes' embeddings of a block to what its second layer gives for a row.
void State::embed(const Way &way, int block, bool horizontal, float *both) const {
    if (!canvas->embedded) return;
    const float *table = canvas->embedded[2 * (way.scale->before + block) + horizontal];
    const int filters = network->filters;
    for (int c = 0; c < way.width; c++)
        for (int i = 0; i < n; i++, both += 2 * f)
            for (int half = 0; half < 2; half++)
                for (int k = 0; k < filters; k++)
                    both[half * f + k] += table[(size_t)(first + i) * 2 * filters + half * filters + k];
}

// ---- the vertical stream, a row at a time ------------------------------------------------------

void State::vertical_row(Way &way, const Way *skips) {
    const int rows = way.width * n;
    way.now ^= 1;
    for (int j = 0; j < way.blocks; j++) {
        const int i = way.upward ? way.blocks - 1 - j : j;
        float *e = way.e_vertical[i + way.upward], *m = way.m_vertical[i];
        activate(u, row_of(way, e, 0) + 2 * column(1), rows);
        Rows in = {{}, 2 * f, h, f, false}, out = {{}, 2 * f, both, 2 * f, false};
        const float **parts = in.inputs, **parts_out = out.inputs;
        for (int above = 1; above >= 0; above--)
            for (int tap = 0; tap < 3; tap++) {
                parts = halves(parts, row_of(way, e, above) + 2 * column(tap), f);
                parts_out = halves(parts_out, row_of(way, m, above) + 2 * column(tap), f);
            }
        if (skips) halves(parts, row_of(*skips, skips->e_vertical[i], 0) + 2 * column(1), f);
        multiply(way.scale->block[i].in, in, rows);
        activate(h, row_of(way, m, 0) + 2 * column(1), rows);
        multiply(way.scale->block[i].out, out, rows);
        embed(way, i, false, both);
        gate(u, both, rows);
    }
    activate(u, row_of(way, way.e_vertical[way.upward ? 0 : way.blocks], 0) + 2 * column(1), rows);
}

// Sums, for each pixel of a row, what the row above and the vertical stream give to the horizontal
// one.
void State::horizontal_begin(Way &way) {
    const int rows = way.width * n;
    for (int i = 0; i < way.blocks; i++) {
        const float *u = row_of(way, way.e_vertical[i + !way.upward], 0) + 2 * column(1);
        Rows in = {{}, 2 * f, way.h[i], f, false}, out = {{}, 2 * f, way.o[i], 2 * f, false};
        const float **parts = halves(in.inputs, way.e[i], f);
        halves(halves(parts, way.e[i] + 2 * column(1), f), u, f);
        halves(halves(out.inputs, way.m[i], f), way.m[i] + 2 * column(1), f);
        multiply(way.scale->block[i].above_in, in, rows);
        multiply(way.scale->block[i].above_out, out, rows);
        embed(way, i, true, way.o[i]);
    }
}

// Halves the resolution: keeps the fine row u; after an even row puts the coarse one in its place.
void State::shrink_row(int s, bool even) {
    Shrink &cache = shrink[s];
    cache.now ^= 1;
    const size_t row = column(width[s] + 2);
    memcpy(cache.vertical + cache.now * row + column(1), u, column(width[s]) * sizeof(float));
    if (!even) return;
    for (int c = 0; c < width[s + 1]; c++) {
        Rows vertical = {{}, f, u + column(c), f, false};
        for (int part = 0; part < 6; part++) {
            const float *from = cache.vertical + (part < 3 ? cache.now ^ 1 : cache.now) * row;
            vertical.inputs[part] = from + column(2 * c + part % 3);
        }
        multiply(network->shrink_vertical[s], vertical, n);
        Rows above = {{cache.v + column(2 * c), cache.v + column(2 * c + 1)}, f,
                      cache.partial + column(c), f, false};
        multiply(network->shrink_above[s], above, n);
    }
}

// Doubles the resolution: takes the coarse row u, gives two fine ones to be fetched by `grown_row`.
void State::grow_row(int s) {
    Grow &cache = grow[s];
    const int coarse = width[s + 1];
    memcpy(cache.input, u, column(coarse) * sizeof(float));
    for (int a = 0; a < 2; a++) {
        float *to = cache.vertical + column(2 * a * coarse);
        Rows even = {{cache.input}, f, to, f, false};
        Rows odd = {{cache.input, cache.input + column(1)}, f, to + column(coarse), f, false};
        multiply(network->grow_even[s][a], even, coarse * n);
        multiply(network->grow_odd[s][a], odd, coarse * n);
    }
}

void State::grown_row(int s, int row) {
    const float *from = grow[s].vertical + column(2 * (row % 2) * width[s + 1]);
    for (int c = 0; c < width[s]; c++)
        memcpy(u + column(c), from + column(c % 2 * width[s + 1] + c / 2), column(1) * sizeof(float));
}

// Adds the features of x̃ to both streams.
void State::add_features(int s, int row, float *partial) {
    if (!canvas->features) return;
    const int filters = network->filters;
    for (int c = 0; c < width[s]; c++)
        for (int i = 0; i < n; i++) {
            const size_t at = ((size_t)row * width[s] + c) * canvas->images + first + i;
            const float *features = canvas->features[s] + at * filters;
            for (int k = 0; k < filters; k++) {
                u[column(c) + i * f + k] += features[k];
                partial[column(c) + i * f + k] += features[k];
            }
        }
}

// The first convolutions: zero in the first row or column, bias and all.
void State::begin_vertical(int row) {
    const int pixel = network->channels + 1, w = canvas->width;
    const size_t step = (size_t)n * pixel, line = step * (w + 2);
    const float *above = pixels + row * line;  // the row above, of a padded image
    memset(u, 0, column(w) * sizeof(float));
    memset(partial, 0, column(1) * sizeof(float));
    Rows left = {{above + step}, pixel, partial + column(1), f, false};
    multiply(network->stem_above_left, left, (w - 1) * n);
    if (row) {
        Rows vertical = {{}, pixel, u, f, false}, horizontal = {{}, pixel, partial, f, true};
        for (int tap = 0; tap < 3; tap++) {
            vertical.inputs[tap] = above - line + tap * step;
            vertical.inputs[3 + tap] = horizontal.inputs[tap] = above + tap * step;
        }
        multiply(network->stem_vertical, vertical, w * n);
        multiply(network->stem_above, horizontal, w * n);
    }
    add_features(0, row, partial);
}

void State::begin_row(int row) {
    const int scales = network->scales, top = coarsest(row);
    begin_vertical(row);
    for (int s = 0; s <= top; s++) {
        vertical_row(down[s], nullptr);
        horizontal_begin(down[s]);
        if (s == scales - 1) break;
        shrink_row(s, s < top);
        if (s < top) add_features(s + 1, row >> (s + 1), shrink[s].partial);
    }
    if (top < scales - 1) grown_row(top, row >> top);
    for (int s = top; s >= 0 && row >> s >= canvas->first_rows_up[s]; s--) {
        vertical_row(up[s], &down[s]);
        horizontal_begin(up[s]);
        if (!s) break;
        grow_row(s - 1);
        grown_row(s - 1, row >> (s - 1));
    }
}

// ---- the horizontal stream, for a pixel or a whole row -----------------------------------------

void State::horizontal(Way &way, int c, int count, const Way *skips) {
    const int rows = count * n;
    const size_t left = 2 * column(c), own = 2 * column(c + 1);
    for (int j = 0; j < way.blocks; j++) {
        const int i = way.upward ? way.blocks - 1 - j : j;
        float *e = way.e[i], *m = way.m[i];
        Rows in = {{}, 2 * f, way.h[i] + column(c), f, true};
        Rows out = {{}, 2 * f, way.o[i] + 2 * column(c), 2 * f, true};
        const float **parts = halves(halves(in.inputs, e + left, f), e + own, f);
        if (skips) halves(parts, skips->e[i] + own, f);
        halves(halves(out.inputs, m + left, f), m + own, f);
        activate(v, e + own, rows);
        multiply(way.scale->block[i].now_in, in, rows);
        activate(in.outputs, m + own, rows);
        multiply(way.scale->block[i].now_out, out, rows);
        gate(v, out.outputs, rows);
    }
    if (!way.upward) activate(v, way.e[way.blocks] + own, rows);
}

void State::shrink_pixels(int s, int c, int count) {
    Shrink &cache = shrink[s];
    for (int i = 0; i < count; i++) {
        const float *left = cache.v + column(2 * (c + i)), *own = cache.v + column(2 * (c + i) + 1);
        Rows now = {{left, own}, f, cache.partial + column(c + i), f, true};
        multiply(network->shrink_now[s], now, n);
    }
    memcpy(v, cache.partial + column(c), column(count) * sizeof(float));
}

void State::grow_pixels(int s, int c, int count) {
    Rows rows = {{v}, f, grow[s].fine + 4 * column(c), 4 * f, false};
    multiply(network->grow_horizontal[s], rows, count * n);
}

void State::grown_pixels(int s, int row, int c, int count) {
    for (int k = 0; k < count; k++) {
        const float *from = grow[s].fine + 4 * column((c + k) / 2) + (2 * (row % 2) + (c + k) % 2) * f;
        for (int i = 0; i < n; i++)
            memcpy(v + column(k) + i * f, from + (size_t)i * 4 * f, f * sizeof(float));
    }
}

// Runs the horizontal stream for one pixel, or for all columns of a row whose pixels are known.
void State::pass(int row, int column_, int count) {
    const int scales = network->scales, pixel = network->channels + 1;
    const bool whole = count == canvas->width;
    const int top = whole || coarsest(row) < coarsest(column_) ? coarsest(row) : coarsest(column_);
    const float *left = pixels + ((size_t)(row + 1) * (canvas->width + 2) + column_) * n * pixel;
    Rows rows = {{left}, pixel, partial + column(column_), f, true};
    multiply(network->stem_left, rows, count * n);
    memcpy(v, rows.outputs, column(count) * sizeof(float));
    for (int s = 0; s <= top; s++) {
        const int c = column_ >> s, some = whole ? width[s] : 1;
        horizontal(down[s], c, some, nullptr);
        if (s == scales - 1) break;
        memcpy(shrink[s].v + column(c + 1), v, column(some) * sizeof(float));
        if (s < top) shrink_pixels(s, c / 2, whole ? width[s + 1] : 1);
    }
    if (top < scales - 1) grown_pixels(top, row >> top, column_ >> top, whole ? width[top] : 1);
    for (int s = top; s >= 0 && row >> s >= canvas->first_rows_up[s]; s--) {
        const int c = column_ >> s, some = whole ? width[s] : 1;
        horizontal(up[s], c, some, &down[s]);
        if (!s) break;
        grow_pixels(s - 1, c, some);
        grown_pixels(s - 1, row >> (s - 1), column_ >> (s - 1), whole ? width[s - 1] : 1);
    }
}

// ---- pixels ------------------------------------------------------------------------------------

bool State::known(int row, int column) const {  // to all images
    const size_t size = (size_t)canvas->height * canvas->width;
    const uint8_t *at = canvas->known + (size_t)row * canvas->width + column;
    if (canvas->known_images == 1) return *at;
    for (int i = 0; i < n; i++)
        if (!at[(first + i) * size]) return false;
    return true;
}

float nearest(float x, int levels) {  // of equally spaced values in [-1, 1]
    const float steps = (float)(levels - 1);
    float level = rintf((x + 1) * (steps / 2));
    level = level < 0 ? 0 : level > steps ? steps : level;
    volatile float scaled = level * (2 / steps);  // rounded, as it is in Python
    return scaled - 1;
}

// Draws one pixel of all images in which it is not known; see `draw` of ../head.py.
void State::draw(int row, int c) {
    const int mixtures = network->mixtures, channels = network->channels, w = canvas->width;
    const size_t size = (size_t)canvas->height * w, own = (size_t)row * w + c;
    const size_t drawn_rows = canvas->height - canvas->first_row;
    const size_t noise = own - (size_t)canvas->first_row * w;
    Rows rows = {{activated}, 2 * f, parameters, network->out.vectors * LANES, false};
    activate(v, activated, n);
    multiply(network->out, rows, n);
    for (int i = 0; i < n; i++) {
        const size_t image = first + i;
        if (canvas->known[(canvas->known_images == 1 ? 0 : image) * size + own]) continue;
        const float *p = parameters + i * rows.outputs_step;
        const float *gumbel = canvas->gumbel + (noise * canvas->images + image) * mixtures;
        const float *standard = canvas->standard + (noise * canvas->images + image) * channels;
        float *to = pixels + (((size_t)(row + 1) * (w + 2) + c + 1) * n + i) * (channels + 1);
        int k = 0;
        for (int other = 1; other < mixtures; other++)
            if (p[other] + gumbel[other] > p[k] + gumbel[k]) k = other;
        const float *means = p + mixtures + k, *log_scales = means + channels * mixtures;
        const float *coupling = log_scales + channels * mixtures;
        for (int channel = 0; channel < channels; channel++) {
            const float s = log_scales[channel * mixtures], floor = canvas->min_log_scale;
            const float scale = expf(s < floor ? floor : s);
            const float wide = canvas->noise ? hypotf(scale, canvas->noise) : scale;
            float x = means[channel * mixtures] + wide * standard[channel];
            if (canvas->centre)
                x += canvas->centre[(image * channels + channel) * drawn_rows * w + noise];
            for (int j = 0; j < channel; j++, coupling += mixtures) x += tanhf(*coupling) * to[j];
            if (canvas->levels) x = nearest(x, canvas->levels);
            to[channel] = x;
            canvas->pixels[(image * channels + channel) * size + own] = x;
        }
    }
}

// ---- what Python calls -------------------------------------------------------------------------

void *pack(const Weights *weights, int32_t panel) {
    if (weights->blocks >= MOST_BLOCKS || weights->scales > MOST_SCALES) return nullptr;
    int layers = 0;
    Network *network = allocate<Network>([&](Network &to, Memory &memory) {
        Reader reader = {*weights, memory, panel, 0};
        read(to, reader);
        layers = reader.layer;
    });
    if (layers == weights->layers) return network;
    free(network);
    return nullptr;
}

void *begin(const void *packed, const Canvas *canvas, int32_t first, int32_t images) {
    const Network &network = *(const Network *)packed;
    State *state = allocate<State>([&](State &to, Memory &memory) {
        lay_out(to, memory, network, *canvas, first, images);
    });
    if (!state) return nullptr;
    const int channels = network.channels, h = canvas->height, w = canvas->width;
    for (int row = 0; row < h; row++)
        for (int c = 0; c < w; c++)
            for (int i = 0; i < images; i++) {
                const size_t pixel = ((size_t)(row + 1) * (w + 2) + c + 1) * images + i;
                float *to = state->pixels + pixel * (channels + 1);
                for (int k = 0; k < channels; k++)
                    to[k] = canvas->pixels[(((size_t)first + i) * channels + k) * h * w + row * w + c];
                to[channels] = 1;
            }
    return state;
}

void run_row(void *opened, int32_t row) {
    State &state = *(State *)opened;
    const int width = state.canvas->width;
    bool all_known = true;
    for (int c = 0; c < width; c++) all_known = all_known && state.known(row, c);
    state.begin_row(row);
    if (all_known) return state.pass(row, 0, width);
    for (int c = 0; c < width; c++) {
        state.pass(row, c, 1);
        if (!state.known(row, c)) state.draw(row, c);
    }
}

}  // namespace

#define TEXT(name) #name
#define NAME(name) TEXT(name)
extern const Processor PROCESSOR = {NAME(PROCESSOR), pack, begin, run_row, free};
