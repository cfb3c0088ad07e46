#include "pretrained/code/build.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <regex>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/base/process.h"
#include "pretrained/base/sha256.h"
#include "pretrained/code/elf.h"

namespace pretrained::code {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kMaxLibrary = 1 << 30;

struct Compiler {
  fs::path path;
  std::string identity;
  bool clang = false;
  std::vector<std::string> flags;
};

Compiler describe_compiler(const Toolchain& toolchain) {
  Compiler compiler;
  compiler.path = find_compiler();
  // Asked once: starting a compiler for its version costs more than all else of a cached load.
  struct stat status{};
  stat(compiler.path.c_str(), &status);
  compiler.identity = compiler.path.string() + " " + fs::canonical(compiler.path).string() + " " +
                      std::to_string(status.st_size) + " " + std::to_string(status.st_mtim.tv_sec);
  compiler.clang = fs::canonical(compiler.path).string().find("clang") != std::string::npos ||
                   compiler.path.string().find("clang") != std::string::npos;
  compiler.flags = {"-std=c++20", "-O1", "-fPIC", "-fvisibility=hidden",
                    "-Wno-missing-field-initializers"};
  if (!compiler.clang) compiler.flags.push_back("-fno-gnu-unique");
  for (auto& dir : toolchain.include_dirs)
    compiler.flags.insert(compiler.flags.end(), {"-isystem", dir});
  return compiler;
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (auto& word : words) out += (out.empty() ? "" : " ") + word;
  return out;
}

std::string make_key(const Sources& sources, const std::string& stub, const Toolchain& toolchain,
                     const Compiler& compiler) {
  Sha256 hash;
  hash.update_framed(digest(sources))
      .update_framed(stub)
      .update_framed(std::to_string(toolchain.api_level));
  hash.update_framed(toolchain.fingerprint)
      .update_framed(compiler.identity)
      .update_framed(joined(compiler.flags));
  hash.update_framed(joined(toolchain.libraries)).update_framed(toolchain.pch_header);
  return hash.hex();
}

// A folder under the cache that is gone when its maker is done, whatever happens.
class Scratch {
 public:
  explicit Scratch(const fs::path& cache) {
    // A folder of its own, since the cache may be any folder of the user's.
    fs::path scratch = cache / ".pretrained-scratch";
    std::error_code error;
    fs::create_directory(scratch, error);
    // What a killed process left behind; nothing compiles for an hour.
    for (auto& entry : fs::directory_iterator(scratch, error)) {
      auto age = fs::file_time_type::clock::now() - entry.last_write_time(error);
      if (age > std::chrono::hours(1)) fs::remove_all(entry.path(), error);
    }
    std::string pattern = (scratch / "XXXXXX").string();
    if (!mkdtemp(pattern.data())) throw IoError(pattern + ": cannot be made");
    path = pattern;
  }
  ~Scratch() {
    std::error_code error;
    fs::remove_all(path, error);
  }
  fs::path path;
};

// The log as the author reads it: paths of the private folder become the repository's own, no
// escape sequences.
std::string readable_log(std::string log, const fs::path& folder) {
  for (auto& prefix : {folder.string() + "/", folder.parent_path().string() + "/"})
    for (size_t at; (at = log.find(prefix)) != log.npos;) log.erase(at, prefix.size());
  std::string clean;
  for (char c : log)
    if (static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t') clean += c;
  return clean;
}

[[noreturn]] void throw_compile_error(const std::vector<std::string>& argv,
                                      const ProcessResult& result, const fs::path& folder) {
  std::string log = readable_log(result.output, folder), first;
  size_t errors = 0;
  for (size_t begin = 0; begin < log.size();) {
    size_t end = std::min(log.find('\n', begin), log.size());
    std::string line = log.substr(begin, end - begin);
    begin = end + 1;
    if (line.find("error:") == line.npos) continue;
    if (errors++ == 0) first = line;
  }
  std::string what = result.timed_out ? "the compiler took too long"
                     : errors         ? "the code does not compile: " + printable(first, 300)
                                      : "the compiler failed";
  throw CompileError(what + (errors > 1 ? " (and " + std::to_string(errors - 1) + " more)" : ""),
                     joined(argv), log);
}

void run_compiler(std::vector<std::string> argv, const fs::path& folder) {
  ProcessResult result = run_process(argv, folder, std::chrono::minutes(10));
  if (result.exit_code != 0) throw_compile_error(argv, result, folder);
}

// clang's precompiled header, made once per compiler, flags and fingerprint. Empty where there is
// none.
fs::path precompiled_header(const Toolchain& toolchain, const Compiler& compiler) {
  if (!compiler.clang || toolchain.pch_header.empty()) return {};
  Sha256 hash;
  hash.update_framed(toolchain.pch_header)
      .update_framed(toolchain.fingerprint)
      .update_framed(compiler.identity)
      .update_framed(joined(compiler.flags));
  std::string key = hash.hex();
  fs::path pch = toolchain.cache_dir / (key + ".pch");
  if (is_private_file(pch)) return pch;
  FileLock lock(toolchain.cache_dir / (key + ".lock"));
  if (is_private_file(pch)) return pch;
  if (toolchain.notice)
    toolchain.notice("precompiling the headers that model code includes (once)…");
  Scratch scratch(toolchain.cache_dir);
  fs::path header =
      toolchain.cache_dir / (key + ".h");  // clang looks for it again whenever the result is used
  write_file_atomically(header, toolchain.pch_header, 0600);
  std::vector<std::string> argv = {compiler.path};
  argv.insert(argv.end(), compiler.flags.begin(), compiler.flags.end());
  argv.insert(argv.end(), {"-x", "c++-header", "-fpch-instantiate-templates", "-Xclang",
                           "-fno-pch-timestamp", header.string(), "-o", "shared.pch"});
  run_compiler(argv, scratch.path);
  fs::permissions(scratch.path / "shared.pch", fs::perms::owner_read | fs::perms::owner_write);
  fs::rename(scratch.path / "shared.pch", pch);
  return pch;
}

bool lies_in(const fs::path& path, const fs::path& folder) {
  fs::path clean = folder.lexically_normal();
  return std::mismatch(clean.begin(), clean.end(), path.begin(), path.end()).first == clean.end();
}

// What the compiler opened must be what was read and hashed, our headers, LibTorch's or the
// compiler's own: an include spelled by a macro gets past the reading, but not past this.
void check_opened(const fs::path& rule, const fs::path& folder, const Toolchain& toolchain,
                  const Compiler& compiler) {
  fs::path prefix = fs::canonical(compiler.path).parent_path().parent_path();
  std::vector<fs::path> allowed = {folder.parent_path(), prefix / "lib", prefix / "include",
                                   "/usr/lib", "/usr/include"};
  allowed.insert(allowed.end(), toolchain.include_dirs.begin(), toolchain.include_dirs.end());
  auto inside = [&](const fs::path& file) {
    return std::any_of(allowed.begin(), allowed.end(),
                       [&](auto& dir) { return lies_in(file, dir); }) ||
           (file.parent_path() == toolchain.cache_dir &&
            (file.extension() == ".pch" || file.extension() == ".h"));
  };
  for (auto& name : parse_dependencies(read_file(rule))) {
    fs::path file = (folder / name).lexically_normal();
    if (!inside(file) && !inside(fs::weakly_canonical(file)))
      throw FormatError("the code includes '" + printable(file.string()) +
                        "', which lies outside its folder");
  }
}

void compile(const Sources& sources, const std::string& stub, const Note& note,
             const Toolchain& toolchain, const Compiler& compiler, const fs::path& target) {
  fs::path pch = precompiled_header(toolchain, compiler);
  if (toolchain.notice) toolchain.notice("compiling the model's code (once)…");
  Scratch scratch(toolchain.cache_dir);
  fs::path folder = scratch.path / "code";
  fs::create_directory(folder);
  std::vector<std::string> units;
  for (auto& source : sources) {
    fs::create_directories((folder / source.path).parent_path());
    write_file_atomically(folder / source.path, source.bytes);
    if (source.path.ends_with(".cc") || source.path.ends_with(".cpp")) units.push_back(source.path);
  }
  // Outside the code's own folder, so that no file of the repository can take its place.
  write_file_atomically(scratch.path / "entry.cpp", stub + note_source(note));
  units.push_back((scratch.path / "entry.cpp").string());

  std::vector<std::string> objects;
  for (auto& unit : units) {
    std::vector<std::string> argv = {compiler.path};
    argv.insert(argv.end(), compiler.flags.begin(), compiler.flags.end());
    argv.insert(argv.end(),
                {"-iquote", folder.string(), "-ffile-prefix-map=" + folder.string() + "/="});
    if (!pch.empty()) argv.insert(argv.end(), {"-include-pch", pch.string()});
    objects.push_back((scratch.path / (std::to_string(objects.size()) + ".o")).string());
    std::string rule = objects.back() + ".d";
    // "./": no file name is an option.
    argv.insert(argv.end(), {"-MD", "-MF", rule, "-c", unit[0] == '/' ? unit : "./" + unit, "-o",
                             objects.back()});
    run_compiler(argv, folder);
    check_opened(rule, folder, toolchain, compiler);
  }
  std::vector<std::string> argv = {compiler.path, "-shared", "-o",
                                   (scratch.path / "library.so").string()};
  argv.insert(argv.end(), objects.begin(), objects.end());
  argv.insert(argv.end(), toolchain.libraries.begin(), toolchain.libraries.end());
  argv.insert(argv.end(),
              {"-Wl,-z,now", "-Wl,-z,relro", "-Wl,-z,noexecstack", "-Wl,--no-undefined"});
  if (!find_program("mold").empty() && compiler.clang) argv.push_back("-fuse-ld=mold");
  run_compiler(argv, folder);

  std::string bytes = read_file(scratch.path / "library.so", kMaxLibrary);
  write_file_atomically(target.string() + ".sha256", sha256_hex(bytes), 0600);
  write_file_atomically(target, bytes, 0600);
}

// The library's bytes where the entry is whole, unchanged since it was made, this user's own, and
// of this key and API level.
std::string read_entry(const fs::path& path, const Note& expected) {
  auto bytes = read_private_file(path, kMaxLibrary);
  if (!bytes || read_private_file(path.string() + ".sha256", 64) != sha256_hex(*bytes)) return {};
  auto note = read_note(*bytes);
  if (!note || note->api_level != expected.api_level || note->key != expected.key) return {};
  return std::move(*bytes);
}

void* open_bytes(const std::string& bytes, const fs::path& path) {
  FileDescriptor memory(memfd_create("pretrained-model-code", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  std::string name = path.string();
  if (memory.get() >= 0) {
    for (size_t at = 0; at < bytes.size();) {
      ssize_t put = write(memory.get(), bytes.data() + at, bytes.size() - at);
      if (put < 0) throw IoError("no memory for " + path.string());
      at += size_t(put);
    }
    fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
    name = "/proc/self/fd/" + std::to_string(memory.get());
  }
  void* handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle)
    throw CompileError(std::string("the compiled code does not load: ") + printable(dlerror(), 500),
                       "dlopen", "");
  // The descriptor stays open: the dynamic linker tells libraries apart by name and would take the
  // next one for this.
  memory.release();
  return handle;
}

}  // namespace

void* Library::symbol(const char* name) const {
  void* found = dlsym(handle, name);
  if (!found)
    throw CompileError(path.string() + ": the compiled code has no symbol '" + name + "'", "dlsym",
                       "");
  return found;
}

const Library& load(const Sources& sources, const std::string& stub, const Toolchain& toolchain) {
  static std::mutex mutex;
  static auto* const libraries = new std::map<std::string, std::unique_ptr<Library>>;
  Compiler compiler = describe_compiler(toolchain);
  Note note{uint32_t(toolchain.api_level), make_key(sources, stub, toolchain, compiler)};
  std::lock_guard guard(mutex);
  auto& library = (*libraries)[note.key];
  if (library) return *library;
  fs::path path = toolchain.cache_dir / (note.key + ".so");
  std::string bytes = read_entry(path, note);
  if (bytes.empty()) {
    FileLock lock(toolchain.cache_dir / (note.key + ".lock"));
    bytes = read_entry(path, note);
    if (bytes.empty()) {
      compile(sources, stub, note, toolchain, compiler, path);
      bytes = read_entry(path, note);
      if (bytes.empty())
        throw CompileError(path.string() + ": the entry just made is not whole", "", "");
    }
  }
  library = std::make_unique<Library>(Library{open_bytes(bytes, path), path});
  return *library;
}

}  // namespace pretrained::code
