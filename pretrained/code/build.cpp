#include "pretrained/code/build.h"

#include <dlfcn.h>

#include <memory>
#include <mutex>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/base/sha256.h"
#include "pretrained/code/cache.h"
#include "pretrained/code/compile.h"
#include "pretrained/code/elf.h"
#include "pretrained/code/open.h"

namespace pretrained::code {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kMaxLibrary = 1 << 30;

std::string make_key(const Sources& sources, const std::string& stub, const std::string& entry,
                     const Toolchain& toolchain, const Compiler& compiler) {
  Sha256 hash;
  hash.update_framed(digest(sources))
      .update_framed(stub)
      .update_framed(entry)
      .update_framed(std::to_string(toolchain.api_level))
      .update_framed(toolchain.fingerprint)
      .update_framed(compiler.identity)
      .update_framed(toolchain.pch_header);
  for (auto* words : {&compiler.flags, &compiler.link_flags, &toolchain.libraries}) {
    hash.update_framed(std::to_string(words->size()));
    for (auto& word : *words) hash.update_framed(word);
  }
  return hash.hex();
}

// The library's bytes where the entry is whole, as it was made, of this key and API level, and
// passes the audit; else nothing, and it is made again.
std::string read_entry(const Cache& cache, const std::string& name, const std::string& entry,
                       const Note& expected, const std::set<std::string>& needed) {
  auto bytes = cache.read(name, kMaxLibrary);
  if (!bytes) return {};
  auto note = read_note(*bytes);
  if (!note || note->api_level != expected.api_level || note->key != expected.key) return {};
  try {
    audit(*bytes, entry, needed);
  } catch (const FormatError&) {
    return {};
  }
  return std::move(*bytes);
}

struct Entry {
  std::string name;
  Note note;
  Compiler compiler;
};

Entry entry_for(const Sources& sources, const std::string& stub, const std::string& function,
                const Toolchain& toolchain) {
  Compiler compiler = describe_compiler(toolchain);
  Note note{uint32_t(toolchain.api_level), make_key(sources, stub, function, toolchain, compiler)};
  return {note.key + ".so", note, compiler};
}

// From the cache, or compiled now.
std::string verified_bytes(const Entry& entry, const Sources& sources, const std::string& stub,
                           const std::string& function, const Toolchain& toolchain) {
  Cache cache(toolchain.cache_dir, toolchain.secret_file);
  auto needed = needed_libraries(toolchain);
  std::string bytes = read_entry(cache, entry.name, function, entry.note, needed);
  if (!bytes.empty()) return bytes;
  FileLock lock(toolchain.cache_dir / (entry.note.key + ".lock"));
  bytes = read_entry(cache, entry.name, function, entry.note, needed);
  if (!bytes.empty()) return bytes;
  // What was made is used, not what is read again.
  bytes = compile(sources, stub, function, entry.note, toolchain, entry.compiler);
  cache.write(entry.name, bytes);
  return bytes;
}

}  // namespace

void* Library::symbol(const char* name) const {
  void* found = dlsym(handle, name);
  if (!found)
    throw CompileError(path.string() + ": the compiled code has no symbol '" + name + "'", "dlsym",
                       "");
  return found;
}

const Library& load(const Sources& sources, const std::string& stub, const std::string& entry,
                    const Toolchain& toolchain) {
  static std::mutex mutex;
  static auto* const libraries = new std::map<std::string, std::unique_ptr<Library>>;
  Entry cached = entry_for(sources, stub, entry, toolchain);
  std::lock_guard guard(mutex);
  auto& library = (*libraries)[cached.note.key];
  if (library) return *library;
  fs::path path = toolchain.cache_dir / cached.name;
  std::string bytes = verified_bytes(cached, sources, stub, entry, toolchain);
  library =
      std::make_unique<Library>(Library{open_library(bytes, toolchain.cache_dir, path), path});
  return *library;
}

FileDescriptor build(const Sources& sources, const std::string& stub, const std::string& entry,
                     const Toolchain& toolchain) {
  Entry cached = entry_for(sources, stub, entry, toolchain);
  std::string bytes = verified_bytes(cached, sources, stub, entry, toolchain);
  return sealed_memory(bytes, toolchain.cache_dir / cached.name);
}

}  // namespace pretrained::code
