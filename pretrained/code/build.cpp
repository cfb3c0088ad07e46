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
  Compiler compiler = describe_compiler(toolchain);
  Note note{uint32_t(toolchain.api_level), make_key(sources, stub, entry, toolchain, compiler)};
  std::lock_guard guard(mutex);
  auto& library = (*libraries)[note.key];
  if (library) return *library;
  std::string name = note.key + ".so";
  fs::path path = toolchain.cache_dir / name;
  Cache cache(toolchain.cache_dir, toolchain.secret_file);
  auto needed = needed_libraries(toolchain);
  std::string bytes = read_entry(cache, name, entry, note, needed);
  if (bytes.empty()) {
    FileLock lock(toolchain.cache_dir / (note.key + ".lock"));
    bytes = read_entry(cache, name, entry, note, needed);
    if (bytes.empty()) {
      // What was made is opened, not what is read again.
      bytes = compile(sources, stub, entry, note, toolchain, compiler);
      cache.write(name, bytes);
    }
  }
  library =
      std::make_unique<Library>(Library{open_library(bytes, toolchain.cache_dir, path), path});
  return *library;
}

}  // namespace pretrained::code
