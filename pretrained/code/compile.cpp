#include "pretrained/code/compile.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/base/sha256.h"
#include "pretrained/code/build.h"
#include "pretrained/code/cache.h"
#include "pretrained/code/includes.h"
#include "pretrained/code/sandbox.h"

namespace pretrained::code {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kMaxOutput = 1 << 30;
constexpr size_t kMaxLog = 64 << 10, kMaxLogLine = 2000;

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (auto& word : words) out += (out.empty() ? "" : " ") + word;
  return out;
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

bool lies_in(const fs::path& path, const fs::path& folder) {
  fs::path clean = folder.lexically_normal();
  return std::mismatch(clean.begin(), clean.end(), path.begin(), path.end()).first == clean.end();
}

// The folders of an installation that a compiler in its bin/ uses; of any other place only itself.
void add_installation(const fs::path& compiler, std::vector<fs::path>& readable) {
  fs::path bin = compiler.parent_path(), prefix = bin.parent_path();
  if (prefix == "/" || prefix == "/usr") return;
  if (bin.filename() != "bin") return readable.push_back(compiler);
  std::error_code error;
  for (auto& entry : fs::directory_iterator(prefix, error)) {
    std::string name = entry.path().filename();
    for (auto* part : {"bin", "lib", "lib64", "libexec", "include"})
      if (name == part || name.find("-linux-") != name.npos) {
        readable.push_back(entry.path());
        break;
      }
  }
}

// A line that -H asked for; g++ ends with a list of headers.
bool is_include_tree(const std::string& line) {
  return line.starts_with('.') || line == "Multiple include guards may be useful for:" ||
         (line.starts_with('/') && line.find(':') == line.npos);
}

// One compilation: what its programs see, and what they said.
class Workshop {
 public:
  Workshop(const Toolchain& toolchain, const Compiler& compiler)
      : scratch(fs::absolute(toolchain.cache_dir)),
        toolchain_(toolchain),
        sandbox_(choose_sandbox(toolchain)) {
    add_installation(compiler.path, readable);
    add_installation(fs::canonical(compiler.path), readable);
    for (fs::path dir : toolchain.include_dirs) {
      // Our own headers may lie in a source tree with much else in it.
      bool ours = fs::exists(dir / "pretrained");
      readable.push_back(ours ? dir / "pretrained" : dir);
    }
    for (auto& library : toolchain.libraries) readable.push_back(library);
  }

  // The program's output. Throws CompileError.
  std::string run(const std::vector<std::string>& argv, const fs::path& directory) {
    ProcessResult result = run_sandboxed(
        sandbox_,
        {argv, scratch.path, directory, readable, toolchain_.time_limit, toolchain_.memory_limit});
    if (result.exit_code != 0 || result.timed_out) fail(argv, result);
    return std::move(result.output);
  }

  Scratch scratch;
  std::vector<fs::path> readable;

 private:
  // The log as the author reads it: paths of the private folder become the repository's own,
  // control characters and bidirectional overrides are escaped, its size is bounded.
  std::string readable_log(std::string log) const {
    for (auto& prefix : {(scratch.path / "code").string() + "/", scratch.path.string() + "/",
                         toolchain_.cache_dir.string() + "/"}) {
      std::string out;
      for (size_t at = 0, found; at < log.size(); at = found + prefix.size()) {
        found = log.find(prefix, at);
        out.append(log, at, found == log.npos ? log.npos : found - at);
        if (found == log.npos) break;
      }
      log = std::move(out);
    }
    std::string clean;
    for (size_t begin = 0; begin < log.size();) {
      size_t end = std::min(log.find('\n', begin), log.size());
      std::string line = log.substr(begin, end - begin);
      if (!is_include_tree(line)) clean += printable(line, kMaxLogLine) + "\n";
      if (clean.size() > kMaxLog) return clean + "… (more was cut)\n";
      begin = end + 1;
    }
    return clean;
  }

  std::string reason(const ProcessResult& result, const std::string& log) const {
    auto limit = std::to_string(toolchain_.time_limit.count()) + " s";
    constexpr int kTimeUp = 128 + SIGXCPU, kFileTooBig = 128 + SIGXFSZ;
    if (result.timed_out || result.exit_code == kTimeUp)
      return "the compiler took longer than " + limit;
    if (result.exit_code == kFileTooBig || log.find("File too large") != log.npos)
      return "the compiler's output is larger than 1 GiB";
    for (auto* text : {"out of memory", "bad_alloc", "cannot allocate memory",
                       "Cannot allocate memory", "Memory exhausted"})
      if (log.find(text) != log.npos)
        return "the compiler needs more than " + std::to_string(toolchain_.memory_limit >> 20) +
               " MiB of memory";
    return "the compiler failed (exit status " + std::to_string(result.exit_code) + ")";
  }

  [[noreturn]] void fail(const std::vector<std::string>& argv, const ProcessResult& result) const {
    std::string log = readable_log(result.output), first;
    size_t errors = 0;
    for (size_t begin = 0; begin < log.size();) {
      size_t end = std::min(log.find('\n', begin), log.size());
      std::string line = log.substr(begin, end - begin);
      begin = end + 1;
      if (line.find("error:") == line.npos) continue;
      if (errors++ == 0) first = line;
    }
    bool stopped = result.timed_out || result.exit_code > 128 || errors == 0;
    std::string what = stopped ? reason(result, log) : "the code does not compile: " + first;
    if (what.size() > 400) what = printable(what, 400);
    if (!stopped && errors > 1) what += " (and " + std::to_string(errors - 1) + " more)";
    throw CompileError(what, joined(argv), log);
  }

  const Toolchain& toolchain_;
  Sandbox sandbox_;
};

// clang's precompiled header, made once per compiler, flags and fingerprint. Empty where there is
// none.
fs::path precompiled_header(const Toolchain& toolchain, const Compiler& compiler) {
  if (!compiler.clang || toolchain.pch_header.empty()) return {};
  Sha256 hash;
  hash.update_framed(toolchain.pch_header)
      .update_framed(toolchain.fingerprint)
      .update_framed(compiler.identity)
      .update_framed(joined(compiler.flags));
  std::string key = hash.hex(), name = key + ".pch";
  fs::path folder = fs::absolute(toolchain.cache_dir), header = folder / (key + ".h");
  Cache cache(folder, toolchain.secret_file);
  // clang looks for the header again whenever the result is used.
  auto whole = [&] {
    return cache.read(name, kMaxOutput) &&
           read_private_file(header, toolchain.pch_header.size()) == toolchain.pch_header;
  };
  if (whole()) return folder / name;
  FileLock lock(folder / (key + ".lock"));
  if (whole()) return folder / name;
  if (toolchain.notice)
    toolchain.notice("precompiling the headers that model code includes (once)…");
  write_file_atomically(header, toolchain.pch_header, 0600);
  Workshop workshop(toolchain, compiler);
  workshop.readable.push_back(header);
  std::vector<std::string> argv = {compiler.path};
  argv.insert(argv.end(), compiler.flags.begin(), compiler.flags.end());
  argv.insert(argv.end(), {"-x", "c++-header", "-fpch-instantiate-templates", "-Xclang",
                           "-fno-pch-timestamp", header.string(), "-o", "shared.pch"});
  workshop.run(argv, workshop.scratch.path);
  cache.write(name, read_inside(workshop.scratch.path, "shared.pch", kMaxOutput));
  return folder / name;
}

// What the compiler opened must be what was read and hashed, our headers, LibTorch's or the
// compiler's own.
void check_opened(const std::string& rule, const fs::path& folder, const Toolchain& toolchain,
                  const std::vector<fs::path>& readable) {
  std::vector<fs::path> allowed = {folder.parent_path(), "/usr/lib", "/usr/include",
                                   "/usr/local/include"};
  allowed.insert(allowed.end(), readable.begin(), readable.end());
  allowed.insert(allowed.end(), toolchain.include_dirs.begin(), toolchain.include_dirs.end());
  auto inside = [&](const fs::path& file) {
    return std::any_of(allowed.begin(), allowed.end(),
                       [&](auto& dir) { return lies_in(file, dir); });
  };
  for (auto& name : parse_dependencies(rule)) {
    fs::path file = (folder / name).lexically_normal();
    if (!inside(file) && !inside(fs::weakly_canonical(file)))
      throw FormatError("the code includes '" + printable(file.string()) +
                        "', which lies outside its folder");
  }
}

// A header of the system by the name it is included by: the rest of its path after a folder that
// compilers search.
bool is_known_path(const fs::path& file) {
  fs::path folder = file.parent_path();
  if (folder.filename() == "include" || folder.parent_path().filename() == "c++")
    return is_known_header(file.filename());
  std::string path = file;
  for (auto* part : {"/torch/", "/ATen/", "/c10/", "/pretrained/"})
    if (path.find(part) != path.npos) return true;
  return false;
}

size_t line_of(const Sources& sources, const fs::path& file, const fs::path& header) {
  for (auto& source : sources)
    if (source.path == file)
      for (auto& include : scan_includes(source.bytes, source.path))
        if (header.string().ends_with("/" + include.name)) return include.line;
  return 0;
}

// The second look at includes, after the reading of the text: what the compiler's tree ("..
// header", a dot a level) shows below a file of the code.
void check_direct_includes(const std::string& tree, const fs::path& unit, const fs::path& folder,
                           const Sources& sources) {
  std::vector<fs::path> above = {(folder / unit).lexically_normal()};
  for (size_t begin = 0; begin < tree.size();) {
    size_t end = std::min(tree.find('\n', begin), tree.size());
    std::string line = tree.substr(begin, end - begin);
    begin = end + 1;
    size_t depth = line.find_first_not_of('.');
    if (depth == 0 || depth == line.npos || line[depth] != ' ') continue;
    above.resize(std::min(depth, above.size()));
    fs::path header = (folder / line.substr(depth + 1)).lexically_normal(), from = above.back();
    above.push_back(header);
    if (!lies_in(from, folder) || lies_in(header, folder) || is_known_path(header)) continue;
    fs::path file = from.lexically_relative(folder);
    size_t number = line_of(sources, file, header);
    throw FormatError(printable(file.string()) + (number ? ":" + std::to_string(number) : "") +
                      ": includes '" + printable(header.string()) +
                      "'; model code has the standard library, torch, pretrained and its own "
                      "files");
  }
}

std::string compile_unit(const std::string& unit, const Sources& sources, const fs::path& pch,
                         const Toolchain& toolchain, const Compiler& compiler, Workshop& workshop,
                         size_t number) {
  fs::path folder = workshop.scratch.path / "code";
  std::string object = std::to_string(number) + ".o", rule = object + ".d";
  std::vector<std::string> argv = {compiler.path};
  argv.insert(argv.end(), compiler.flags.begin(), compiler.flags.end());
  argv.insert(argv.end(),
              {"-iquote", folder.string(), "-ffile-prefix-map=" + folder.string() + "/="});
  if (!pch.empty()) argv.insert(argv.end(), {"-include-pch", pch.string()});
  // -w: the include tree on the same stream stays free of what a #pragma wants printed.
  // "./": no file name is an option.
  argv.insert(argv.end(), {"-w", "-H", "-MD", "-MF", (workshop.scratch.path / rule).string(), "-c",
                           unit[0] == '/' ? unit : "./" + unit, "-o",
                           (workshop.scratch.path / object).string()});
  std::string tree = workshop.run(argv, folder);
  check_opened(read_inside(workshop.scratch.path, rule), folder, toolchain, workshop.readable);
  check_direct_includes(tree, unit, folder, sources);
  return (workshop.scratch.path / object).string();
}

}  // namespace

Compiler describe_compiler(const Toolchain& toolchain) {
  Compiler compiler;
  compiler.path = fs::absolute(find_compiler());
  // Asked once: starting a compiler for its version costs more than all else of a cached load.
  struct stat status{};
  stat(compiler.path.c_str(), &status);
  compiler.identity = compiler.path.string() + " " + fs::canonical(compiler.path).string() + " " +
                      std::to_string(status.st_size) + " " + std::to_string(status.st_mtim.tv_sec);
  compiler.clang = fs::canonical(compiler.path).string().find("clang") != std::string::npos ||
                   compiler.path.string().find("clang") != std::string::npos;
  compiler.flags = {"-std=c++20", "-O1", "-fPIC", "-fvisibility=hidden",
                    "-Wno-missing-field-initializers"};
  compiler.flags.push_back(compiler.clang ? "-fno-crash-diagnostics" : "-fno-gnu-unique");
  for (auto& dir : toolchain.include_dirs)
    compiler.flags.insert(compiler.flags.end(), {"-isystem", dir});
  compiler.link_flags = {"-shared",
                         "-Wl,-z,now",
                         "-Wl,-z,relro",
                         "-Wl,-z,noexecstack",
                         "-Wl,--no-undefined",
                         "-Wl,-Bsymbolic",
                         "-Wl,--exclude-libs,ALL",
                         "-Wl,--hash-style=gnu",
                         "-Wl,--build-id=none"};
  if (compiler.clang && fs::exists("/usr/bin/mold")) compiler.link_flags.push_back("-fuse-ld=mold");
  return compiler;
}

std::set<std::string> needed_libraries(const Toolchain& toolchain) {
  std::set<std::string> names;
  for (auto& library : toolchain.libraries) {
    FileDescriptor file(open(library.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat status{};
    if (file.get() < 0 || fstat(file.get(), &status) != 0) throw_errno(library, errno);
    void* bytes = mmap(nullptr, size_t(status.st_size), PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (bytes == MAP_FAILED) throw_errno(library, errno);
    std::string name = read_soname({static_cast<const char*>(bytes), size_t(status.st_size)});
    munmap(bytes, size_t(status.st_size));
    names.insert(name.empty() ? library : name);
  }
  return names;
}

std::string compile(const Sources& sources, const std::string& stub, const std::string& entry,
                    const Note& note, const Toolchain& toolchain, const Compiler& compiler) {
  // Whoever hands them over: nothing is compiled that reading would refuse.
  check_sources(sources);
  fs::path pch = precompiled_header(toolchain, compiler);
  if (toolchain.notice) toolchain.notice("compiling the model's code (once)…");
  Workshop workshop(toolchain, compiler);
  if (!pch.empty())
    workshop.readable.insert(workshop.readable.end(), {pch, fs::path(pch).replace_extension(".h")});
  fs::path folder = workshop.scratch.path / "code";
  fs::create_directory(folder);
  std::vector<std::string> units, objects;
  for (auto& source : sources) {
    fs::create_directories((folder / source.path).parent_path());
    write_file_atomically(folder / source.path, source.bytes);
    if (source.path.ends_with(".cc") || source.path.ends_with(".cpp")) units.push_back(source.path);
  }
  // Outside the code's own folder, so that no file of the repository can take its place.
  write_file_atomically(workshop.scratch.path / "entry.cpp", stub + note_source(note));
  units.push_back((workshop.scratch.path / "entry.cpp").string());
  for (auto& unit : units)
    objects.push_back(
        compile_unit(unit, sources, pch, toolchain, compiler, workshop, objects.size()));

  fs::path exports = workshop.scratch.path / "exports";
  write_file_atomically(exports, "{ global: " + entry + "; local: *; };\n");
  std::vector<std::string> argv = {compiler.path, "-o", "library.so"};
  argv.insert(argv.end(), objects.begin(), objects.end());
  argv.insert(argv.end(), toolchain.libraries.begin(), toolchain.libraries.end());
  argv.insert(argv.end(), compiler.link_flags.begin(), compiler.link_flags.end());
  argv.push_back("-Wl,--version-script=" + exports.string());
  workshop.run(argv, workshop.scratch.path);
  std::string library = read_inside(workshop.scratch.path, "library.so", kMaxOutput);
  audit(library, entry, needed_libraries(toolchain));
  return library;
}

}  // namespace pretrained::code
