// Parameter values of least test error.
#include "batch.hpp"

#include "srfx/solve/optimum.hpp"

namespace {

/// (low, high, logarithmic, places).
using Axis = std::tuple<double, double, bool, int>;
srfx::SearchAxis axis_of(const Axis& axis) {
  return {std::get<0>(axis), std::get<1>(axis), std::get<2>(axis), std::get<3>(axis)};
}

py::dict optimum(const Activation& sigma, const py::object& target, const std::vector<double>& map,
                 const Doubles& sets, const Integers& set_index, const Doubles& beta,
                 const Doubles& noise, const Doubles& alpha, const Doubles& lam,
                 const Doubles& inverse_d, py::ssize_t n_points,
                 const std::vector<std::pair<int, Axis>>& line,
                 const std::vector<std::pair<int, Axis>>& coordinates, bool largest, int n_threads,
                 const Doubles& alignments) {
  srfx::OptimumInput in;
  if (map.size() != 1 && map.size() != 6) throw py::value_error("map must have 1 or 6 entries");
  in.map.readout = map[0];
  if (map.size() == 6) {
    in.map.step = true;
    in.map.h1 = map[1], in.map.curved = map[2], in.map.tilt = map[3], in.map.rest = map[4],
    in.map.target_h1 = map[5];
  }
  if (sets.ndim() != 2 || sets.shape(1) != 3) throw py::value_error("sets must have three columns");
  for (py::ssize_t i = 0; i < sets.shape(0); ++i)
    in.sets.push_back({sets.at(i, 0), sets.at(i, 1), sets.at(i, 2)});
  set_target(in, target, alignments, alignments.ndim() > 1 ? sets.shape(0) : alignments.size());
  set_points(in, sigma, set_index, beta, noise, alpha, lam, inverse_d, n_points, n_threads);
  if (line.size() > 1 || coordinates.size() > 2)
    throw py::value_error("one line and two coordinates at most");
  in.has_line = !line.empty();
  if (in.has_line) {
    in.line = static_cast<srfx::Direction>(line[0].first);
    in.line_axis = axis_of(line[0].second);
  }
  for (const auto& [own, axis] : coordinates) in.coordinates.push_back({own, axis_of(axis)});
  in.sign = largest ? -1 : 1;
  in.interior = largest;

  const py::ssize_t n_values = static_cast<py::ssize_t>(line.size() + coordinates.size());
  py::array_t<double> values({n_values, n_points});
  py::array_t<std::int8_t> status(n_points);
  py::array_t<std::int32_t> n_minima(n_points), n_failed(n_points);
  srfx::OptimumOutput out{};
  double* row = values.mutable_data();
  if (in.has_line) out.line = row, row += n_points;
  for (std::size_t q = 0; q < coordinates.size(); ++q) out.coordinates[q] = row, row += n_points;
  out.status = status.mutable_data(), out.n_minima = n_minima.mutable_data(),
  out.n_failed = n_failed.mutable_data();
  run_released([&](srfx::Interrupt& interrupt) {
    srfx::optimum_batch(srfx::MarchenkoPastur{}, in, out, interrupt);
  });
  py::dict result;
  result["values"] = values, result["status"] = status, result["n_minima"] = n_minima,
  result["n_failed"] = n_failed;
  return result;
}

}  // namespace

void register_optimum(py::module_& m) {
  using py::arg;
  m.def("optimum", &optimum, arg("sigma"), arg("target"), arg("map"), arg("sets"), arg("set_index"),
        arg("beta"), arg("noise"), arg("alpha"), arg("lam"), arg("inv_d"), arg("n_points"),
        arg("line"), arg("coordinates"), arg("largest"), arg("n_threads"),
        arg("alignments") = Doubles(),
        "Where the test error is least (or largest, inside the range): values, one row a parameter "
        "searched (that of the line first), "
        "status, n_minima, n_failed. line: at most one (direction as in gradient, (low, high, "
        "logarithmic, places)); coordinates: up to "
        "two (column of sets, axis). map: (readout,) for sets (r, c, gamma), or (readout, h1, h2^2 "
        "+ hc1, h2 u_1, u_2 less the noise, h1*) for "
        "sets (eta, alpha0, noise). Of a Target: alignments of shape (sets, L), of which only the "
        "direction counts.");
}
