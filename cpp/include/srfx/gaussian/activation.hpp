// The named activations sigma(x): value, derivative, and what quadrature needs to know of them.
//
//   tanh, erf, sin, cos, relu, leaky_relu = max(x, 0.01 x), sign, abs, softplus = log(1 + e^x),
//   sigmoid = 1/(1 + e^-x), gelu = x Phi(x) with Phi the normal distribution function, silu = x
//   sigmoid(x), hardtanh = min(max(x, -1), 1), linear, hermite1 .. hermite6 = He_n(x) / sqrt(n!),
//   the probabilists' polynomials with E hermite_n(z)^2 = 1 for z ~ N(0, 1).
//
// Each is a struct with two templates, value(x) and derivative(x), of a double, a float or Lanes of
// them: the same operations in the same order, so a number does not depend on the width it was
// computed with. Odd functions are odd and even ones even to the last bit. Accuracies are those of
// vecmath.hpp. NaN propagates; +-inf give the limits.
//
// At a kink the derivative is the average of both sides (relu 1/2, abs 0, leaky_relu 0.505,
// hardtanh 1/2). sign has no usable derivative: its distributional one is 2 delta(x), and
// derivative() is 0 everywhere.
#pragma once

#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "srfx/core/simd.hpp"
#include "srfx/core/types.hpp"
#include "srfx/core/vecmath.hpp"

namespace srfx {

enum class Parity : int { none, even, odd };

/// Everything quadrature needs to know about one named activation.
struct ActivationInfo {
  const char* name;
  Parity parity;
  int n_kinks;
  double kinks[2];  ///< points where the value or the derivative is not smooth
  bool jump;        ///< the value itself is discontinuous there
  double strip;     ///< half-width of the strip of analyticity, infinite if (piecewise) entire
  int growth;       ///< degree of growth at infinity: 0 bounded, 1 like relu, n like hermite_n
};

namespace detail {
inline constexpr double pi = 3.14159265358979323846;
inline constexpr double entire = std::numeric_limits<double>::infinity();

/// The constant c, except that NaN stays NaN.
template <class V> V constant(V x, double c) { return simd::select(x == x, V(c), x); }
/// below for x < a, above for x > a, at for x == a, NaN for NaN.
template <class V> V step(V x, double a, double below, double at, double above) {
  return simd::select(x < V(a), V(below), simd::select(x > V(a), V(above), constant(x, at)));
}
}  // namespace detail

struct Tanh {
  static constexpr ActivationInfo info{"tanh", Parity::odd, 0, {}, false, detail::pi / 2, 0};
  template <class V> SRFX_ALWAYS_INLINE static V value(V x) { return vecmath::tanh(x); }
  template <class V> SRFX_ALWAYS_INLINE static V derivative(V x) {
    return vecmath::tanh_derivative(x);
  }
};

struct Erf {
  static constexpr ActivationInfo info{"erf", Parity::odd, 0, {}, false, detail::entire, 0};
  template <class V> SRFX_ALWAYS_INLINE static V value(V x) { return vecmath::erf(x); }
  template <class V> SRFX_ALWAYS_INLINE static V derivative(V x) {
    return vecmath::erf_derivative(x);
  }
};

struct Sin {
  static constexpr ActivationInfo info{"sin", Parity::odd, 0, {}, false, detail::entire, 0};
  template <class V> SRFX_ALWAYS_INLINE static V value(V x) { return vecmath::sin(x); }
  template <class V> SRFX_ALWAYS_INLINE static V derivative(V x) { return vecmath::cos(x); }
};

struct Cos {
  static constexpr ActivationInfo info{"cos", Parity::even, 0, {}, false, detail::entire, 0};
  template <class V> SRFX_ALWAYS_INLINE static V value(V x) { return vecmath::cos(x); }
  template <class V> SRFX_ALWAYS_INLINE static V derivative(V x) { return -vecmath::sin(x); }
};

struct Relu {
  static constexpr ActivationInfo info{"relu", Parity::none, 1, {0.0}, false, detail::entire, 1};
  template <class V> SRFX_ALWAYS_INLINE static V value(V x) {
    return simd::select(x < V(0), V(0), x);
  }
  template <class V> SRFX_ALWAYS_INLINE static V derivative(V x) {
    return detail::step(x, 0.0, 0.0, 0.5, 1.0);
  }
};

struct LeakyRelu {
  static constexpr double slope = 0.01;
  static constexpr ActivationInfo info{"leaky_relu", Parity::none,   1, {0.0},
                                       false,        detail::entire, 1};
  template <class V> SRFX_ALWAYS_INLINE static V value(V x) {
    return simd::select(x < V(0), V(slope) * x, x);
  }
  template <class V> SRFX_ALWAYS_INLINE static V derivative(V x) {
    return detail::step(x, 0.0, slope, 0.5 * (slope + 1.0), 1.0);
  }
};

struct Sign {
  static constexpr ActivationInfo info{"sign", Parity::odd, 1, {0.0}, true, detail::entire, 0};
  /// Zero keeps its sign: sign(-0.0) is -0.0.
  template <class V> SRFX_ALWAYS_INLINE static V value(V x) {
    return simd::select(x < V(0), V(-1), simd::select(x > V(0), V(1), x));
  }
  template <class V> SRFX_ALWAYS_INLINE static V derivative(V x) {
    return detail::constant(x, 0.0);
  }
};

struct Abs {
  static constexpr ActivationInfo info{"abs", Parity::even, 1, {0.0}, false, detail::entire, 1};
  template <class V> SRFX_ALWAYS_INLINE static V value(V x) { return simd::abs(x); }
  template <class V> SRFX_ALWAYS_INLINE static V derivative(V x) { return Sign::value(x); }
};

struct Softplus {
  static constexpr ActivationInfo info{"softplus", Parity::none, 0, {}, false, detail::pi, 1};
  template <class V> SRFX_ALWAYS_INLINE static V value(V x) { return vecmath::softplus(x); }
  template <class V> SRFX_ALWAYS_INLINE static V derivative(V x) { return vecmath::sigmoid(x); }
};

struct Sigmoid {
  static constexpr ActivationInfo info{"sigmoid", Parity::none, 0, {}, false, detail::pi, 0};
  template <class V> SRFX_ALWAYS_INLINE static V value(V x) { return vecmath::sigmoid(x); }
  template <class V> SRFX_ALWAYS_INLINE static V derivative(V x) {
    return vecmath::sigmoid_derivative(x);
  }
};

struct Gelu {
  static constexpr ActivationInfo info{"gelu", Parity::none, 0, {}, false, detail::entire, 1};
  template <class V> SRFX_ALWAYS_INLINE static V value(V x) { return vecmath::gelu(x); }
  template <class V> SRFX_ALWAYS_INLINE static V derivative(V x) {
    return vecmath::gelu_derivative(x);
  }
};

struct Silu {
  static constexpr ActivationInfo info{"silu", Parity::none, 0, {}, false, detail::pi, 1};
  template <class V> SRFX_ALWAYS_INLINE static V value(V x) { return vecmath::silu(x); }
  template <class V> SRFX_ALWAYS_INLINE static V derivative(V x) {
    return vecmath::silu_derivative(x);
  }
};

struct Hardtanh {
  static constexpr ActivationInfo info{"hardtanh", Parity::odd,    2, {-1.0, 1.0},
                                       false,      detail::entire, 0};
  template <class V> SRFX_ALWAYS_INLINE static V value(V x) {
    return simd::select(x < V(-1), V(-1), simd::select(x > V(1), V(1), x));
  }
  template <class V> SRFX_ALWAYS_INLINE static V derivative(V x) {
    return detail::step(simd::abs(x), 1.0, 1.0, 0.5, 0.0);
  }
};

struct Linear {
  static constexpr ActivationInfo info{"linear", Parity::odd, 0, {}, false, detail::entire, 1};
  template <class V> SRFX_ALWAYS_INLINE static V value(V x) { return x; }
  template <class V> SRFX_ALWAYS_INLINE static V derivative(V x) {
    return detail::constant(x, 1.0);
  }
};

/// He_n / sqrt(n!), by Horner in x^2 (finite or infinite, never inf - inf); derivative sqrt(n)
/// He_{n-1} / sqrt((n-1)!).
template <int n> struct Hermite {
  static_assert(n >= 1 && n <= 6);
  static constexpr const char* names[7] = {"",         "hermite1", "hermite2", "hermite3",
                                           "hermite4", "hermite5", "hermite6"};
  static constexpr ActivationInfo info{
      names[n], n % 2 == 0 ? Parity::even : Parity::odd, 0, {}, false, detail::entire, n};
  static constexpr double root_n[] = {0.0,
                                      1.0,
                                      1.41421356237309504880,
                                      1.73205080756887729353,
                                      2.0,
                                      2.23606797749978969641,
                                      2.44948974278317809820};
  static constexpr double norm[] = {1.0,
                                    1.0,
                                    0.70710678118654752440,
                                    0.40824829046386301637,
                                    0.20412414523193150818,
                                    0.09128709291752768558,
                                    0.03726779962499649495};  // 1 / sqrt(n!)

  template <class V> SRFX_ALWAYS_INLINE static V value(V x) {
    using simd::fma;
    if constexpr (n == 1) return x;
    [[maybe_unused]] const V z = x * x;
    if constexpr (n == 2) return V(norm[n]) * fma(x, x, V(-1));
    if constexpr (n == 3) return V(norm[n]) * (x * fma(x, x, V(-3)));
    if constexpr (n == 4) return V(norm[n]) * fma(z, fma(x, x, V(-6)), V(3));
    if constexpr (n == 5) return V(norm[n]) * (x * fma(z, fma(x, x, V(-10)), V(15)));
    if constexpr (n == 6) return V(norm[n]) * fma(z, fma(z, fma(x, x, V(-15)), V(45)), V(-15));
  }
  template <class V> SRFX_ALWAYS_INLINE static V derivative(V x) {
    if constexpr (n == 1) return detail::constant(x, 1.0);
    else return V(root_n[n]) * Hermite<n - 1>::value(x);
  }
};

// The one list of activations. The enumeration, the table of information and dispatch() follow it.
// clang-format off
#define SRFX_ACTIVATIONS(X) \
  X(tanh, Tanh) X(erf, Erf) X(sin, Sin) X(cos, Cos) X(relu, Relu) X(leaky_relu, LeakyRelu) \
  X(sign, Sign) X(abs, Abs) X(softplus, Softplus) X(sigmoid, Sigmoid) X(gelu, Gelu) \
  X(silu, Silu) X(hardtanh, Hardtanh) X(linear, Linear) X(hermite1, Hermite<1>) \
  X(hermite2, Hermite<2>) X(hermite3, Hermite<3>) X(hermite4, Hermite<4>) \
  X(hermite5, Hermite<5>) X(hermite6, Hermite<6>)
// clang-format on

enum class ActivationId : int {
#define SRFX_ENUMERATOR(name, type) name,
  SRFX_ACTIVATIONS(SRFX_ENUMERATOR)
#undef SRFX_ENUMERATOR
};

namespace detail {
inline constexpr ActivationInfo activation_table[] = {
#define SRFX_INFO(name, type) type::info,
    SRFX_ACTIVATIONS(SRFX_INFO)
#undef SRFX_INFO
};
}  // namespace detail

inline constexpr int n_activations = static_cast<int>(std::size(detail::activation_table));
static_assert(n_activations == 20);

inline const ActivationInfo& info(ActivationId id) {
  return detail::activation_table[static_cast<int>(id)];
}

/// The activation of that name. Throws std::invalid_argument, listing the names, if there is none.
inline ActivationId activation_from_name(std::string_view name) {
  for (int i = 0; i < n_activations; ++i)
    if (name == detail::activation_table[i].name) return static_cast<ActivationId>(i);
  std::string message = "unknown activation '" + std::string(name) + "'; known are";
  for (const ActivationInfo& a : detail::activation_table) message += std::string(" ") + a.name;
  throw std::invalid_argument(message);
}

/// f(Tanh{}), f(Erf{}), ... according to `id`: the one place where an activation known at run time
/// becomes a type.
template <class F> decltype(auto) dispatch(ActivationId id, F&& f) {
  switch (id) {
#define SRFX_CASE(name, type) \
  case ActivationId::name: return std::forward<F>(f)(type{});
    SRFX_ACTIVATIONS(SRFX_CASE)
#undef SRFX_CASE
  }
  throw std::invalid_argument("activation id out of range: " +
                              std::to_string(static_cast<int>(id)));
}

namespace detail {
/// f of `count` whole blocks. Never inlined: the kernel is compiled once, its constants stay in
/// registers.
template <class V, class T, class F>
__attribute__((noinline)) void map_blocks(const T* x, T* y, Index count, F f) {
  constexpr Index width = simd::Traits<V>::size;
  for (Index i = 0; i < count * width; i += width) f(V::load(x + i)).store(y + i);
}

/// y[i] = f(x[i]). The last block is padded, so every element goes through the same instructions
/// and a result depends on its argument only.
template <class T, class F> void map(const T* x, T* y, Index n, F f) {
  using V = simd::Pair<simd::Lanes<T, simd::native_width<T>>>;  // two independent chains at once
  constexpr Index width = simd::Traits<V>::size;
  const Index whole = n / width, done = whole * width;
  map_blocks<V>(x, y, whole, f);
  if (done == n) return;
  T block[width] = {};
  for (Index j = done; j < n; ++j) block[j - done] = x[j];
  map_blocks<V>(block, block, Index(1), f);
  for (Index j = done; j < n; ++j) y[j] = block[j - done];
}
}  // namespace detail

/// y[i] = sigma(x[i]), i < n. x and y may be the same array.
template <class T> void evaluate(ActivationId id, const T* x, T* y, Index n) {
  dispatch(id, [=](auto activation) {
    detail::map(x, y, n, [](auto v) __attribute__((always_inline)) {
      return decltype(activation)::value(v);
    });
  });
}

/// y[i] = sigma'(x[i]), i < n. x and y may be the same array.
template <class T> void evaluate_derivative(ActivationId id, const T* x, T* y, Index n) {
  dispatch(id, [=](auto activation) {
    detail::map(x, y, n, [](auto v) __attribute__((always_inline)) {
      return decltype(activation)::derivative(v);
    });
  });
}

// Compiled once: cpp/src/activation.cpp.
extern template void evaluate(ActivationId, const double*, double*, Index);
extern template void evaluate(ActivationId, const float*, float*, Index);
extern template void evaluate_derivative(ActivationId, const double*, double*, Index);
extern template void evaluate_derivative(ActivationId, const float*, float*, Index);

}  // namespace srfx
