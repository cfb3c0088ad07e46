#pragma once
// Compiled model code, judged by its bytes before anything of it runs. All functions take any
// bytes and never read out of bounds.
//
// The note that every such library carries:
//
//   section .note.pretrained: name "pretrained", type 1, description: uint32 API level, 64
//   hexadecimal digits of the key

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "pretrained/base/export.h"

namespace pretrained::code {

struct Note {
  uint32_t api_level = 0;
  std::string key;
};

// Nothing where the bytes are no 64-bit little-endian ELF file with such a note.
PRETRAINED_API std::optional<Note> read_note(std::string_view elf);
// C++ text that puts the note into a translation unit.
PRETRAINED_API std::string note_source(const Note& note);

// What a library may be: it exports one function, `entry`, needs only libraries in `needed` (and
// those of the C++ runtime), and asks nothing else of the dynamic linker than to be mapped, without
// memory that is both written and executed, and to have its own data relocated. No code of it runs
// while it is linked (IFUNC); constructors run after this. Throws FormatError with the first
// violation.
PRETRAINED_API void audit(std::string_view elf, const std::string& entry,
                          const std::set<std::string>& needed);

// The name other libraries need it by; empty where it has none.
PRETRAINED_API std::string read_soname(std::string_view elf);

}  // namespace pretrained::code
