#include "pretrained/code/elf.h"

#include <elf.h>

#include <cstring>

namespace pretrained::code {
namespace {

constexpr std::string_view kName("pretrained\0", 11);
constexpr size_t kKeySize = 64, kDescription = 4 + kKeySize;

template <class T>
bool read_at(std::string_view bytes, uint64_t offset, T& value) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) return false;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return true;
}

constexpr uint64_t padded(uint64_t size) { return (size + 3) / 4 * 4; }

std::optional<Note> find_in(std::string_view notes) {
  for (uint64_t at = 0; at < notes.size();) {
    Elf64_Nhdr head;
    if (!read_at(notes, at, head)) return std::nullopt;
    uint64_t name = at + sizeof head, text = name + padded(head.n_namesz);
    if (text > notes.size() || padded(head.n_descsz) > notes.size() - text) return std::nullopt;
    Note note;
    if (head.n_type == 1 && head.n_descsz == kDescription &&
        notes.substr(name, head.n_namesz) == kName && read_at(notes, text, note.api_level)) {
      note.key = notes.substr(text + 4, kKeySize);
      return note;
    }
    at = text + padded(head.n_descsz);
  }
  return std::nullopt;
}

}  // namespace

std::optional<Note> read_note(std::string_view elf) {
  Elf64_Ehdr head;
  if (!read_at(elf, 0, head) || std::memcmp(head.e_ident, ELFMAG, SELFMAG) != 0)
    return std::nullopt;
  if (head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_ident[EI_DATA] != ELFDATA2LSB)
    return std::nullopt;
  for (uint64_t i = 0; i < head.e_phnum; ++i) {
    Elf64_Phdr segment;
    if (head.e_phoff > elf.size() || !read_at(elf, head.e_phoff + i * sizeof segment, segment))
      return std::nullopt;
    if (segment.p_type != PT_NOTE || segment.p_offset > elf.size() ||
        segment.p_filesz > elf.size() - segment.p_offset)
      continue;
    if (auto note = find_in(elf.substr(segment.p_offset, segment.p_filesz))) return note;
  }
  return std::nullopt;
}

std::string note_source(const Note& note) {
  return "\nnamespace { __attribute__((section(\".note.pretrained\"), used, aligned(4))) const "
         "struct {\n"
         "  unsigned name_size = 11, description_size = 68, type = 1;\n"
         "  char name[12] = \"pretrained\";\n"
         "  unsigned api_level = " +
         std::to_string(note.api_level) +
         ";\n"
         "  char key[64] = {" +
         [&] {
           std::string list;
           for (char c : note.key) list += (list.empty() ? "'" : ",'") + std::string(1, c) + "'";
           return list;
         }() +
         "};\n} pretrained_note; }\n";
}

}  // namespace pretrained::code
