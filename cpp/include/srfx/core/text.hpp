// Numbers as text.
#pragma once

#include <charconv>
#include <cstring>
#include <string>

namespace srfx {

#if defined(__cpp_lib_to_chars)  // not in every standard library yet

/// Appends the shortest text that reads back as the same finite number, laid out as Python's repr
/// has it.
inline void append_shortest(std::string& out, double x) {
  char buffer[32];  // "-d.dddddddddddddddde-ddd"
  char* const end =
      std::to_chars(buffer, buffer + sizeof buffer, x, std::chars_format::scientific).ptr;
  char* const letter =
      static_cast<char*>(std::memchr(buffer, 'e', static_cast<std::size_t>(end - buffer)));
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
}

#endif

}  // namespace srfx
