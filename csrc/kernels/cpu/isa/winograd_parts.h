// Tiles in and out of Winograd's domain, vectorised over channels.
#pragma once
#include "base/parallel.h"
#include "kernels/cpu/isa/gemm_micro.h"
#include "kernels/cpu/winograd.h"
#include "kernels/winograd.h"

namespace dlcore::DLCORE_ISA {

inline constexpr int64_t kChannels = 32;  // output channels of a panel of transformed weights

struct Arithmetic {
  typedef VF V;
  static DLCORE_INLINE VF fma(VF a, VF b, VF c) { return DLCORE_ISA::fma(a, b, c); }
  static DLCORE_INLINE VF number(float x) { return splat(x); }
};
struct TilePosition {
  int64_t slice, top, left;  // of the output tile
};

TilePosition tile_position(const WinogradShape& s, int64_t tile);

// body(slot, chunk) for every chunk: a slot, whose scratch is its own, takes the next chunk as long as there is one. So
// threads end within a chunk of each other, and those in use keep their scratch in the cache.
template <class F>
DLCORE_INLINE void in_slots(int64_t slots, int64_t chunks, int64_t cycles, F&& body) {
  int64_t next = 0;
  parallel_for(slots, cycles, [&](int64_t slot) {
    for (int64_t c; (c = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED)) < chunks;) body(slot, c);
  });
}

// The rows that tiles [first, first + count) read of the inputs, or write of the outputs, beyond those of the tiles
// before them. Nothing where tiles lie between one another.
Ahead inputs_ahead(const WinogradShape& s, const float* in, int64_t first, int64_t count);
Ahead outputs_ahead(const WinogradShape& s, const float* out, int64_t first, int64_t count);

DLCORE_INLINE VF load_some(const float* p, int n) { return n == W ? load(p) : load_partial(p, n); }
// v[tile][point·point_stride + channel] of `count` input tiles from `first` on, as outputs of phase `of_out` see them,
// all s.all_depth() channels of their products.
template <class F>
void transform_inputs(const WinogradShape& s, WinogradPhase of_out, const float* in, int64_t first, int64_t count,
                      float* v, int64_t point_stride);

// Output channels [channel, channel + channels) of such tiles of phase `of_out` from m[tile][point·point_stride +
// channel], kChannels from tile to tile.
template <class F>
void transform_outputs(const WinogradShape& s, WinogradPhase of_out, const float* m, int64_t point_stride,
                       int64_t first, int64_t count, int64_t channel, int64_t channels, float* out);

// The gradients of such output tiles, all their channels: v[tile][point·point_stride + channel].
template <class F>
void transform_gradients(const WinogradShape& s, const float* dout, int64_t first, int64_t count, float* v,
                         int64_t point_stride);

}  // namespace dlcore::DLCORE_ISA
