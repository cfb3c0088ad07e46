#pragma once
// What a source file reads of other files, found by reading its text as a compiler does: splices,
// comments, string literals. What #if leaves out counts too.

#include <string>
#include <vector>

#include "pretrained/base/export.h"

namespace pretrained::code {

struct Include {
  std::string name;
  bool quoted, embedded;  // in quotes; by #embed, as data
  size_t line;
};

// In the order of the text: #include, #include_next, #import, #embed, __has_include, __has_embed.
// Throws FormatError that begins with `file` and the line for what model code may not do: an
// include spelled by a macro or leading out of the folder, angle brackets around anything but a
// known header, .incbin, and a #pragma that is not one of those for diagnostics, code generation or
// `once`.
PRETRAINED_API std::vector<Include> scan_includes(const std::string& text, const std::string& file);

// A header of the standard library, the compiler's intrinsics, torch, ATen, c10 or pretrained.
PRETRAINED_API bool is_known_header(const std::string& name);

}  // namespace pretrained::code
