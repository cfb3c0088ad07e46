#include <elf.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <vector>

#include "pretrained/base/error.h"
#include "pretrained/code/elf.h"

namespace pretrained::code {
namespace {

#if defined(__x86_64__)
constexpr Elf64_Half kMachine = EM_X86_64;
const std::set<uint32_t> kRelocations = {R_X86_64_64,       R_X86_64_GLOB_DAT, R_X86_64_JUMP_SLOT,
                                         R_X86_64_RELATIVE, R_X86_64_DTPMOD64, R_X86_64_DTPOFF64,
                                         R_X86_64_TPOFF64,  R_X86_64_TLSDESC};
constexpr uint32_t kIndirect = R_X86_64_IRELATIVE;
#elif defined(__aarch64__)
constexpr Elf64_Half kMachine = EM_AARCH64;
const std::set<uint32_t> kRelocations = {
    R_AARCH64_ABS64,      R_AARCH64_GLOB_DAT,   R_AARCH64_JUMP_SLOT, R_AARCH64_RELATIVE,
    R_AARCH64_TLS_DTPMOD, R_AARCH64_TLS_DTPREL, R_AARCH64_TLS_TPREL, R_AARCH64_TLSDESC};
constexpr uint32_t kIndirect = R_AARCH64_IRELATIVE;
#endif

const std::set<std::string> kRuntime = {
    "libstdc++.so.6", "libc++.so.1", "libc++abi.so.1",       "libm.so.6",
    "libgcc_s.so.1",  "libc.so.6",   "libpthread.so.0",      "libdl.so.2",
    "libatomic.so.1", "librt.so.1",  "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"};

const std::set<uint32_t> kSegments = {PT_LOAD,         PT_DYNAMIC,   PT_NOTE,      PT_TLS,
                                      PT_GNU_EH_FRAME, PT_GNU_STACK, PT_GNU_RELRO, PT_PHDR,
                                      PT_GNU_PROPERTY, PT_NULL};

const std::map<int64_t, const char*> kForbiddenTags = {{DT_RPATH, "DT_RPATH"},
                                                       {DT_RUNPATH, "DT_RUNPATH"},
                                                       {DT_TEXTREL, "DT_TEXTREL"},
                                                       {DT_AUDIT, "DT_AUDIT"},
                                                       {DT_DEPAUDIT, "DT_DEPAUDIT"},
                                                       {DT_FILTER, "DT_FILTER"},
                                                       {DT_AUXILIARY, "DT_AUXILIARY"},
                                                       {DT_CONFIG, "DT_CONFIG"},
                                                       {DT_PREINIT_ARRAY, "DT_PREINIT_ARRAY"},
                                                       {DT_HASH, "DT_HASH"},
                                                       {DT_VERDEF, "DT_VERDEF"}};

const std::set<int64_t> kTags = {
    DT_NEEDED,     DT_PLTRELSZ,     DT_PLTGOT,       DT_STRTAB,    DT_SYMTAB,      DT_RELA,
    DT_RELASZ,     DT_RELAENT,      DT_STRSZ,        DT_SYMENT,    DT_INIT,        DT_FINI,
    DT_SONAME,     DT_SYMBOLIC,     DT_PLTREL,       DT_JMPREL,    DT_BIND_NOW,    DT_INIT_ARRAY,
    DT_FINI_ARRAY, DT_INIT_ARRAYSZ, DT_FINI_ARRAYSZ, DT_FLAGS,     DT_FLAGS_1,     DT_GNU_HASH,
    DT_VERSYM,     DT_VERNEED,      DT_VERNEEDNUM,   DT_RELACOUNT, DT_TLSDESC_PLT, DT_TLSDESC_GOT};

[[noreturn]] void refuse(const std::string& why) { throw FormatError("the compiled code " + why); }

constexpr uint64_t kPage = 4096;

// The library as the dynamic linker sees it: by addresses, never by sections.
class Image {
 public:
  explicit Image(std::string_view file) : file_(file) {
    Elf64_Ehdr head;
    if (!copy(0, head) || std::memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 ||
        head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_ident[EI_DATA] != ELFDATA2LSB)
      refuse("is no 64-bit ELF file");
    if (head.e_type != ET_DYN || head.e_machine != kMachine)
      refuse("is no shared library for this machine");
    if (head.e_phentsize != sizeof(Elf64_Phdr) || head.e_phnum == 0 || head.e_phnum > 64)
      refuse("has no sound table of segments");
    segments.resize(head.e_phnum);
    for (size_t i = 0; i < segments.size(); ++i)
      if (head.e_phoff > file.size() || !copy(head.e_phoff + i * sizeof(Elf64_Phdr), segments[i]))
        refuse("has no sound table of segments");
    read_dynamic();
  }

  // `size` bytes at an address, as they lie in the file.
  std::string_view at(uint64_t address, uint64_t size) const {
    for (auto& segment : segments)
      if (segment.p_type == PT_LOAD && address >= segment.p_vaddr &&
          address - segment.p_vaddr <= segment.p_filesz &&
          size <= segment.p_filesz - (address - segment.p_vaddr) &&
          segment.p_offset <= file_.size() && segment.p_filesz <= file_.size() - segment.p_offset)
        return file_.substr(segment.p_offset + (address - segment.p_vaddr), size);
    refuse("points out of itself");
  }
  template <class T>
  T get(uint64_t address) const {
    T value;
    std::memcpy(&value, at(address, sizeof value).data(), sizeof value);
    return value;
  }
  bool inside(uint64_t address, uint64_t size, uint32_t flags) const {
    return std::any_of(segments.begin(), segments.end(), [&](const Elf64_Phdr& segment) {
      return segment.p_type == PT_LOAD && (segment.p_flags & flags) == flags &&
             address >= segment.p_vaddr && size <= segment.p_memsz &&
             address - segment.p_vaddr <= segment.p_memsz - size;
    });
  }
  std::string text(uint64_t offset) const {
    std::string_view all = at(tag(DT_STRTAB), tag(DT_STRSZ));
    size_t end = offset < all.size() ? all.find('\0', offset) : all.npos;
    if (end == all.npos) refuse("has a name that does not end");
    return std::string(all.substr(offset, end - offset));
  }
  uint64_t tag(int64_t name) const {
    auto found = std::find_if(dynamic.begin(), dynamic.end(),
                              [&](auto& entry) { return entry.d_tag == name; });
    return found == dynamic.end() ? 0 : found->d_un.d_val;
  }

  std::vector<Elf64_Phdr> segments;
  std::vector<Elf64_Dyn> dynamic;

 private:
  template <class T>
  bool copy(uint64_t offset, T& value) const {
    if (offset > file_.size() || file_.size() - offset < sizeof value) return false;
    std::memcpy(&value, file_.data() + offset, sizeof value);
    return true;
  }
  void read_dynamic() {
    const Elf64_Phdr* table = nullptr;
    for (auto& segment : segments)
      if (segment.p_type == PT_DYNAMIC && std::exchange(table, &segment))
        refuse("has two dynamic segments");
    if (!table) refuse("has no dynamic segment");
    for (uint64_t i = 0; i < 1024; ++i) {
      auto entry = get<Elf64_Dyn>(table->p_vaddr + i * sizeof(Elf64_Dyn));
      if (entry.d_tag == DT_NULL) return;
      dynamic.push_back(entry);
    }
    refuse("has a dynamic segment without end");
  }
  std::string_view file_;
};

void audit_segments(const Image& image) {
  uint64_t end = 0;
  bool stack = false;
  for (auto& segment : image.segments) {
    if (!kSegments.contains(segment.p_type))
      refuse("has a segment of type " + std::to_string(segment.p_type));
    if (segment.p_type == PT_GNU_STACK) {
      if (segment.p_flags & PF_X) refuse("wants an executable stack");
      stack = true;
    }
    if (segment.p_type == PT_GNU_RELRO && !image.inside(segment.p_vaddr, segment.p_memsz, 0))
      refuse("protects what is not its own data");
    if (segment.p_type != PT_LOAD) continue;
    if ((segment.p_flags & PF_W) && (segment.p_flags & PF_X))
      refuse("has memory that is both writable and executable");
    if (segment.p_memsz > (uint64_t(1) << 40) || segment.p_vaddr > (uint64_t(1) << 40) ||
        segment.p_filesz > segment.p_memsz)
      refuse("has a segment of impossible size");
    // Segments that lie over each other would be mapped as something else than what is read here.
    if (segment.p_memsz && segment.p_vaddr / kPage * kPage < end)
      refuse("has segments that overlap");
    end = (segment.p_vaddr + segment.p_memsz + kPage - 1) / kPage * kPage;
  }
  if (!stack) refuse("does not say that its stack is not executable");
}

void audit_dynamic(const Image& image, const std::set<std::string>& needed) {
  std::set<int64_t> seen;
  for (auto& entry : image.dynamic) {
    if (auto named = kForbiddenTags.find(entry.d_tag); named != kForbiddenTags.end())
      refuse(std::string("has ") + named->second);
    if (!kTags.contains(entry.d_tag)) refuse("has the dynamic tag " + std::to_string(entry.d_tag));
    if (entry.d_tag == DT_NEEDED) {
      std::string name = image.text(entry.d_un.d_val);
      if (!needed.contains(name) && !kRuntime.contains(name))
        refuse("needs the library '" + printable(name) + "'");
    } else if (!seen.insert(entry.d_tag).second) {
      refuse("has the dynamic tag " + std::to_string(entry.d_tag) + " twice");
    }
  }
  if (image.tag(DT_FLAGS) & DF_TEXTREL) refuse("has DT_TEXTREL");
  if (image.tag(DT_FLAGS) & ~uint64_t(DF_SYMBOLIC | DF_BIND_NOW | DF_STATIC_TLS) ||
      image.tag(DT_FLAGS_1) & ~uint64_t(DF_1_NOW | DF_1_NODELETE))
    refuse("has dynamic flags of another kind");
  if (seen.contains(DT_PLTREL) && image.tag(DT_PLTREL) != DT_RELA)
    refuse("has relocations of another kind");
  for (auto [name, size] :
       {std::pair(DT_RELAENT, sizeof(Elf64_Rela)), {DT_SYMENT, sizeof(Elf64_Sym)}})
    if (seen.contains(name) && image.tag(name) != size) refuse("has tables of another kind");
}

// One past the last symbol that can be looked up by name.
uint64_t count_symbols(const Image& image) {
  uint64_t hash = image.tag(DT_GNU_HASH);
  if (!hash) refuse("has no DT_GNU_HASH");
  auto buckets = image.get<uint32_t>(hash), first = image.get<uint32_t>(hash + 4);
  uint64_t at = hash + 16 + uint64_t(image.get<uint32_t>(hash + 8)) * 8, last = 0;
  for (uint64_t i = 0; i < buckets; ++i)
    last = std::max<uint64_t>(last, image.get<uint32_t>(at + i * 4));
  if (last < first) return first;
  uint64_t chain = at + uint64_t(buckets) * 4;
  while (!(image.get<uint32_t>(chain + (last - first) * 4) & 1)) ++last;
  return last + 1;
}

uint64_t audit_symbols(const Image& image, const std::string& entry) {
  uint64_t count = count_symbols(image);
  bool found = false;
  for (uint64_t i = 1; i < count; ++i) {
    auto symbol = image.get<Elf64_Sym>(image.tag(DT_SYMTAB) + i * sizeof(Elf64_Sym));
    if (symbol.st_shndx == SHN_UNDEF) continue;
    if (ELF64_ST_TYPE(symbol.st_info) == STT_GNU_IFUNC) refuse("has an IFUNC");
    if (ELF64_ST_BIND(symbol.st_info) == STB_GNU_UNIQUE) refuse("has a GNU_UNIQUE symbol");
    std::string name = image.text(symbol.st_name);
    if (name != entry || std::exchange(found, true))
      refuse("exports '" + printable(name) + "', where only '" + entry + "' is asked for");
    if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC || !image.inside(symbol.st_value, 1, PF_X))
      refuse("exports '" + entry + "', which is no function of its own");
  }
  if (!found) refuse("does not export '" + entry + "'");
  return count;
}

void audit_relocations(const Image& image, uint64_t symbols) {
  for (auto [table, size] : {std::pair(DT_RELA, DT_RELASZ), {DT_JMPREL, DT_PLTRELSZ}}) {
    std::string_view all = image.tag(size) ? image.at(image.tag(table), image.tag(size)) : "";
    for (uint64_t i = 0; i < all.size() / sizeof(Elf64_Rela); ++i) {
      Elf64_Rela relocation;
      std::memcpy(&relocation, all.data() + i * sizeof relocation, sizeof relocation);
      auto type = ELF64_R_TYPE(relocation.r_info);
      if (type == kIndirect) refuse("has an IFUNC");
      if (!kRelocations.contains(uint32_t(type)))
        refuse("has a relocation of type " + std::to_string(type));
      if (ELF64_R_SYM(relocation.r_info) >= symbols)
        refuse("relocates by a symbol it does not have");
      if (!image.inside(relocation.r_offset, 8, PF_W)) refuse("relocates what is not its own data");
    }
  }
}

}  // namespace

void audit(std::string_view elf, const std::string& entry, const std::set<std::string>& needed) {
  Image image(elf);
  audit_segments(image);
  audit_dynamic(image, needed);
  audit_relocations(image, audit_symbols(image, entry));
}

std::string read_soname(std::string_view elf) {
  try {
    Image image(elf);
    uint64_t at = image.tag(DT_SONAME);
    return at ? image.text(at) : "";
  } catch (const FormatError&) {
    return "";
  }
}

}  // namespace pretrained::code
