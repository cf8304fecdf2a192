// Threads. The only file that knows OpenMP; without it the threads are the standard library's, made
// for each call. The numbers are the same either way.
#pragma once

#include "srfx/core/types.hpp"

#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <mutex>

#ifdef SRFX_HAS_OPENMP
#include <omp.h>
#else
#include <algorithm>
#include <system_error>
#include <thread>
#include <vector>
#endif

namespace srfx {

/// Thrown by the calling thread when its work was cancelled.
struct Cancelled : std::exception {
  const char* what() const noexcept override { return "cancelled"; }
};

/// A flag that stops running work, and a question put to the calling thread now and then ("was
/// Ctrl-C pressed?").
class Interrupt {
 public:
  Interrupt() = default;
  explicit Interrupt(std::function<bool()> poll) : poll_(std::move(poll)) {}

  void cancel() { flag_.store(true, std::memory_order_relaxed); }
  bool cancelled() const { return flag_.load(std::memory_order_relaxed); }

  /// Called by the thread that entered the core, between pieces of work: asks at most every 20 ms.
  void check() {
    if (!poll_ || cancelled()) return;
    const auto now = Clock::now();
    if (now < next_) return;
    next_ = now + std::chrono::milliseconds(20);
    if (poll_()) cancel();
  }

 private:
  using Clock = std::chrono::steady_clock;
  std::function<bool()> poll_;
  std::atomic<bool> flag_{false};
  Clock::time_point next_{};
};

/// Threads this process may use when the caller does not say.
inline int default_threads() {
#ifdef SRFX_HAS_OPENMP
  return omp_get_num_procs();
#else
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
#endif
}

/// Runs `work(piece, thread)` for piece = 0 .. n_pieces - 1 on at most `n_threads` threads, handed
/// out dynamically.
///
/// What a piece computes must depend on the piece alone: then the result is the same for every
/// thread count. The first exception of any piece stops the rest and is rethrown here; a cancelled
/// run throws Cancelled.
template <class Work>
void parallel_for(Index n_pieces, int n_threads, Interrupt& interrupt, Work&& work) {
  std::exception_ptr error;
  std::mutex error_mutex;
  std::atomic<bool> failed{false};
  const auto run = [&](Index piece, int thread) {
    if (failed.load(std::memory_order_relaxed) || interrupt.cancelled()) return;
    try {
      work(piece, thread);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(error_mutex);
      if (!error) error = std::current_exception();
      failed.store(true, std::memory_order_relaxed);
    }
    if (thread == 0) interrupt.check();
  };
  if (n_threads <= 1 || n_pieces <= 1) {
    for (Index piece = 0; piece < n_pieces; ++piece) run(piece, 0);
  } else {
#ifdef SRFX_HAS_OPENMP
#pragma omp parallel for schedule(dynamic, 1) num_threads(n_threads)
    for (Index piece = 0; piece < n_pieces; ++piece) run(piece, omp_get_thread_num());
#else
    std::atomic<Index> next{0};
    const auto take = [&](int thread) {
      for (Index piece; (piece = next.fetch_add(1, std::memory_order_relaxed)) < n_pieces;)
        run(piece, thread);
    };
    const int n_others = static_cast<int>(std::min<Index>(n_threads, n_pieces)) - 1;
    std::vector<std::thread> others;
    others.reserve(static_cast<std::size_t>(n_others));
    try {
      for (int thread = 1; thread <= n_others; ++thread) others.emplace_back(take, thread);
    } catch (const std::system_error&) {
      // The system grants no more threads: those there are share the work.
    }
    take(0);
    for (std::thread& other : others) other.join();
#endif
  }
  if (error) std::rethrow_exception(error);
  if (interrupt.cancelled()) throw Cancelled{};
}

}  // namespace srfx
