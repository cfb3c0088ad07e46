#pragma once
// What differs between two versions of shared code, for a person to read before trusting it.

#include <string>

#include "pretrained/code/closure.h"

namespace pretrained::code {

// As `diff -u` writes it, with three lines of context; "" where nothing differs. What could mislead
// a terminal or a reader is escaped (`printable`). Long lines and, beyond `max_lines`, the rest are
// cut, and it says so.
PRETRAINED_API std::string unified_diff(const Sources& before, const Sources& after,
                                        size_t max_lines = 1000);

}  // namespace pretrained::code
