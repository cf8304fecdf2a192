// The functions that Python hands to the core: named activations and targets, and vectorised
// callables.
#pragma once

#include "module.hpp"

#include "srfx/gaussian/named.hpp"
#include "srfx/gaussian/target.hpp"

#include <memory>
#include <optional>
#include <string>

/// A Python callable of a float64 vector. Takes the GIL for each call; checks what comes back.
class CallableFunction : public srfx::Function {
 public:
  CallableFunction(py::object callable, std::vector<double> kinks, std::string role);
  ~CallableFunction() override;
  CallableFunction(const CallableFunction&) = delete;
  CallableFunction& operator=(const CallableFunction&) = delete;
  void evaluate(const double* x, double* y, srfx::Index n) const override;
  bool one_call() const override { return true; }

 private:
  py::object callable_;
  std::string role_;
};

/// An activation as Python sees it: its value and, where it has one, its derivative.
struct Activation {
  std::string name;
  std::optional<srfx::ActivationId> id;  ///< of a named activation
  std::shared_ptr<srfx::Function> value, derivative;
};

/// A Python callable of one float64 vector a direction. Takes the GIL for each call; checks what
/// comes back.
class CallableTarget : public srfx::TargetFunction {
 public:
  CallableTarget(py::object callable, srfx::Index directions, std::vector<srfx::Plane> planes,
                 std::string role);
  ~CallableTarget() override;
  CallableTarget(const CallableTarget&) = delete;
  CallableTarget& operator=(const CallableTarget&) = delete;
  void evaluate(const double* t, double* y, srfx::Index n) const override;
  bool one_call() const override { return true; }

 private:
  py::object callable_;
  std::string role_;
};

/// A target of one direction: an activation.
class OneDirection : public srfx::TargetFunction {
 public:
  explicit OneDirection(std::shared_ptr<srfx::Function> function);
  void evaluate(const double* t, double* y, srfx::Index n) const override {
    function_->evaluate(t, y, n);
  }
  bool one_call() const override { return function_->one_call(); }

 private:
  std::shared_ptr<srfx::Function> function_;
};

/// A target as Python sees it.
struct Target {
  std::string name;
  std::shared_ptr<srfx::TargetFunction> value;
};
