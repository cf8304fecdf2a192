// The functions that Python hands to the core: named activations (srfx/named.hpp) and vectorised callables.
#pragma once

#include "module.hpp"

#include "srfx/gaussian/named.hpp"

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
