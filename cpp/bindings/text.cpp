// Numbers as text, as Python writes them, in the rows of a table: what CSV and JSON files take
// their time with.
#include "module.hpp"

#include "srfx/core/text.hpp"

#include <cmath>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace {

/// Appends what repr gives.
void append_number(std::string& out, double x) {
#if defined(__cpp_lib_to_chars)
  srfx::append_shortest(out, x);
#else  // slower, and the same
  char* const text = PyOS_double_to_string(x, 'r', 0, Py_DTSF_ADD_DOT_0, nullptr);
  if (text == nullptr) throw py::error_already_set();
  out += text;
  PyMem_Free(text);
#endif
}

using Numbers = py::array_t<double, py::array::c_style | py::array::forcecast>;

/// A column of few different texts: a place in the list for each row.
struct Words {
  py::array_t<std::int32_t, py::array::c_style | py::array::forcecast> places;
  std::vector<std::string> texts;
};

using Column = std::variant<Numbers, Words>;

Column column_of(const py::handle& given) {
  if (!py::isinstance<py::tuple>(given)) return given.cast<Numbers>();
  const auto both = given.cast<py::tuple>();
  return Words{both[0].cast<decltype(Words::places)>(), both[1].cast<std::vector<std::string>>()};
}

/// Rows `first` to `last` of columns of equal length: pieces[0], column 0, pieces[1], ...,
/// pieces[n], each time.
py::str join_rows(const std::vector<std::string>& pieces, const std::vector<py::object>& columns,
                  py::ssize_t first, py::ssize_t last, const std::string& nan,
                  const std::string& infinity) {
  std::vector<Column> parts;
  for (const py::object& column : columns) parts.push_back(column_of(column));
  std::string out;
  for (py::ssize_t row = first; row < last; ++row) {
    for (std::size_t j = 0; j < parts.size(); ++j) {
      out += pieces[j];
      if (const Words* words = std::get_if<Words>(&parts[j])) {
        out += words->texts[static_cast<std::size_t>(words->places.data()[row])];
        continue;
      }
      const double x = std::get<Numbers>(parts[j]).data()[row];
      if (std::isnan(x)) {
        out += nan;
      } else if (std::isinf(x)) {
        const std::size_t quote = infinity.front() == '"' ? 1 : 0;
        out += infinity;
        if (x < 0) out.insert(out.size() - infinity.size() + quote, 1, '-');
      } else {
        append_number(out, x);
      }
    }
    out += pieces.back();
  }
  return out;
}

}  // namespace

void register_text(py::module_& m) {
  m.def("join_rows", &join_rows, py::arg("pieces"), py::arg("columns"), py::arg("first"),
        py::arg("last"), py::arg("nan"), py::arg("infinity"),
        "Text of rows of numbers, each as repr has it, or of words (places, texts), between the "
        "pieces.");
}
