// Numbers as text, as Python writes them, in the rows of a table: what CSV and JSON files take their time with.
#include "module.hpp"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <variant>
#include <vector>

namespace {

/// Appends the shortest text that reads back as the same number: what repr gives.
void append_shortest(std::string& out, double x) {
#if defined(__cpp_lib_to_chars)
  char buffer[32];  // "-d.dddddddddddddddde-ddd"
  char* const end = std::to_chars(buffer, buffer + sizeof buffer, x, std::chars_format::scientific).ptr;
  char* const letter = static_cast<char*>(std::memchr(buffer, 'e', static_cast<std::size_t>(end - buffer)));
  int exponent = 0;
  std::from_chars(letter + (letter[1] == '+' ? 2 : 1), end, exponent);
  if (exponent < -4 || exponent >= 16) {
    out.append(buffer, end);  // the exponent has two digits or more here as there
    return;
  }
  char* digits = buffer;
  if (*digits == '-') out += *digits++;
  if (letter - digits > 1) {  // without its point: d.ddd to dddd
    digits[1] = digits[0];
    ++digits;
  }
  const int count = static_cast<int>(letter - digits), before = exponent + 1;
  if (before <= 0) {
    out.append("0.").append(static_cast<std::size_t>(-before), '0').append(digits, letter);
  } else if (count <= before) {
    out.append(digits, letter).append(static_cast<std::size_t>(before - count), '0').append(".0");
  } else {
    out.append(digits, digits + before).append(1, '.').append(digits + before, letter);
  }
#else  // a standard library without it: slower, and the same
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

/// Rows `first` to `last` of columns of equal length: pieces[0], column 0, pieces[1], ..., pieces[n], each time.
py::str join_rows(const std::vector<std::string>& pieces, const std::vector<py::object>& columns, py::ssize_t first,
                  py::ssize_t last, const std::string& nan, const std::string& infinity) {
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
        append_shortest(out, x);
      }
    }
    out += pieces.back();
  }
  return out;
}

}  // namespace

void register_text(py::module_& m) {
  m.def("join_rows", &join_rows, py::arg("pieces"), py::arg("columns"), py::arg("first"), py::arg("last"), py::arg("nan"),
        py::arg("infinity"), "Text of rows of numbers, each as repr has it, or of words (places, texts), between the pieces.");
}
