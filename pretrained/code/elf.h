#pragma once
// The note that every library of compiled model code carries, read from the file's bytes before
// anything of it runs.
//
//   section .note.pretrained: name "pretrained", type 1, description: uint32 API level, 64
//   hexadecimal digits of the key

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "pretrained/base/export.h"

namespace pretrained::code {

struct Note {
  uint32_t api_level = 0;
  std::string key;
};

// Nothing where the bytes are no 64-bit little-endian ELF file with such a note. Never reads out of
// bounds.
PRETRAINED_API std::optional<Note> read_note(std::string_view elf);
// C++ text that puts the note into a translation unit.
PRETRAINED_API std::string note_source(const Note& note);

}  // namespace pretrained::code
