// Targets of several directions s*(t_1, .., t_L): what quadrature must know of them, and the named
// ones.
//
//   product = t_1 .. t_L,  sign_product = sign(t_1 .. t_L) (the parity of L signs),  max = the
//   largest of them
//
// On a plane where it jumps a target takes the value between both sides: sign_product is 0 where a
// t_l is 0.
#pragma once

#include <array>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "srfx/core/types.hpp"

namespace srfx {

/// The plane normal.t = offset, on which a target or a derivative of it jumps.
struct Plane {
  std::vector<double> normal;
  double offset = 0;
};

/// What quadrature must know of a target.
struct TargetShape {
  Index directions = 1;
  std::vector<Plane>
      planes;           ///< where it is not smooth, as declared: repeats and parallels may occur
  int growth = 2;       ///< degree of growth at infinity
  int parity = 0;       ///< 1: s*(-t) = s*(t), -1: s*(-t) = -s*(t), 0: neither, or unknown
  bool labels = false;  ///< the values are E[y | t] of labels y of +1 and -1 (label_target.hpp)
  bool jumps = false;   ///< where the value changes its sign, which may be on curves
  bool smooth() const { return planes.empty() && !jumps; }
};

/// A target. May be called from any thread.
class TargetFunction {
 public:
  virtual ~TargetFunction() = default;
  /// y[i] = s*(t[i], t[n + i], .., t[(L - 1) n + i]) for i < n: the values of a direction lie
  /// together.
  virtual void evaluate(const double* t, double* y, Index n) const = 0;
  /// True if one call on many points is far cheaper than many calls on few.
  virtual bool one_call() const { return false; }
  const TargetShape& shape() const { return shape_; }
  Index directions() const { return shape_.directions; }

 protected:
  TargetShape shape_;
};

enum class TargetId : int { product, sign_product, max };
inline constexpr std::array<const char*, 3> target_names{"product", "sign_product", "max"};

inline TargetId target_from_name(std::string_view name) {
  for (std::size_t i = 0; i < target_names.size(); ++i)
    if (name == target_names[i]) return static_cast<TargetId>(i);
  throw std::invalid_argument("unknown target '" + std::string(name) + "'");
}

/// A named target of any number of directions.
class NamedTarget final : public TargetFunction {
 public:
  NamedTarget(TargetId id, Index directions) : id_(id) {
    shape_.directions = directions;
    const auto count = static_cast<std::size_t>(directions);
    if (id == TargetId::product) shape_.growth = static_cast<int>(directions);
    if (id == TargetId::sign_product) shape_.growth = 0;
    if (id == TargetId::max) shape_.growth = 1;
    if (id != TargetId::max) shape_.parity = directions % 2 == 0 ? 1 : -1;
    for (std::size_t l = 0; l < count; ++l) {
      Plane plane{std::vector<double>(count, 0.0), 0.0};
      plane.normal[l] = 1;
      if (id == TargetId::sign_product) shape_.planes.push_back(plane);
      for (std::size_t m = l + 1; id == TargetId::max && m < count; ++m) {
        Plane equal = plane;
        equal.normal[m] = -1;
        shape_.planes.push_back(equal);
      }
    }
  }

  void evaluate(const double* t, double* y, Index n) const override {
    for (Index i = 0; i < n; ++i) {
      double value = t[i];
      for (Index l = 1; l < shape_.directions; ++l) {
        const double x = t[l * n + i];
        if (id_ == TargetId::product) value *= x;
        else if (id_ == TargetId::max) value = x > value ? x : value;
        else value = x > 0 ? value : x < 0 ? -value : 0.0;
      }
      if (id_ == TargetId::sign_product) value = value > 0 ? 1.0 : value < 0 ? -1.0 : 0.0;
      y[i] = value;
    }
  }

 private:
  TargetId id_;
};

}  // namespace srfx
