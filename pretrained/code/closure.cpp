#include "pretrained/code/closure.h"

#include <algorithm>
#include <optional>
#include <regex>
#include <set>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/base/sha256.h"
#include "pretrained/code/includes.h"
#include "pretrained/code/sandbox.h"

namespace pretrained::code {
namespace fs = std::filesystem;
namespace {

constexpr size_t kMaxFiles = 256;
constexpr uint64_t kMaxFile = 1 << 20, kMaxTotal = 8 << 20;

// `name` as seen from the folder of `includer`, without "." and ".."; nothing where it leads out of
// the root.
std::optional<std::string> resolve(const std::string& includer, const std::string& name) {
  std::vector<std::string> parts;
  for (auto& part : fs::path(includer).parent_path() / name) {
    if (part == "." || part.empty()) continue;
    if (part != "..")
      parts.push_back(part);
    else if (parts.empty())
      return std::nullopt;
    else
      parts.pop_back();
  }
  std::string out;
  for (auto& part : parts) out += (out.empty() ? "" : "/") + part;
  return out;
}

class Reader {
 public:
  explicit Reader(const fs::path& folder) : folder_(folder) {}

  // False where the folder has no such file.
  bool add(const std::string& path, bool embedded = false) {
    auto stored = sources_.find(path);
    if (stored == sources_.end()) {
      std::error_code error;
      if (!fs::exists(fs::symlink_status(folder_ / path, error))) return false;
      stored = sources_.emplace(path, read_inside(folder_, path, kMaxFile)).first;
      total_ += stored->second.size();
      if (sources_.size() > kMaxFiles || total_ > kMaxTotal)
        throw FormatError(folder_.string() + ": the code is more than " +
                          std::to_string(kMaxFiles) + " files or " +
                          std::to_string(kMaxTotal >> 20) + " MiB");
    }
    if (embedded || !followed_.insert(path).second) return true;
    follow(path, scan_includes(stored->second, printable((folder_ / path).string(), 1000)));
    std::string stem = path.substr(0, path.rfind('.'));
    if (path.ends_with(".h") || path.ends_with(".hpp"))
      for (auto* extension : {".cc", ".cpp"}) add(stem + extension);
    return true;
  }

  Sources take() {
    Sources sources;
    for (auto& [path, bytes] : sources_) sources.push_back({path, std::move(bytes)});
    return sources;
  }

 private:
  void follow(const std::string& path, const std::vector<Include>& includes) {
    for (auto& include : includes) {
      if (!include.quoted) continue;
      auto inside = resolve(path, include.name);
      if (!inside)
        throw FormatError((folder_ / path).string() + ":" + std::to_string(include.line) +
                          ": the include '" + printable(include.name) +
                          "' leads out of the folder");
      bool climbs = ("/" + include.name + "/").find("/../") != std::string::npos;
      if (!add(*inside, include.embedded) && !climbs) add(include.name, include.embedded);
    }
  }

  fs::path folder_;
  std::map<std::string, std::string> sources_;
  std::set<std::string> followed_;
  uint64_t total_ = 0;
};

fs::path common_folder(const std::set<fs::path>& files) {
  fs::path root = files.begin()->parent_path();
  for (auto& file : files)
    while (std::mismatch(root.begin(), root.end(), file.begin(), file.end()).first != root.end())
      root = root.parent_path();
  return root;
}

// The name in clang's "fatal error: 'robo/config.h' file not found" or g++'s "fatal error:
// robo/config.h: No such file or directory".
std::string missing_include(const std::string& log) {
  static const std::regex pattern("fatal error: '?([^':\n]+)'?(: No such file| file not found)");
  std::smatch match;
  return std::regex_search(log, match, pattern) ? match[1].str() : "";
}

std::string first_error(const std::string& log) {
  size_t at = log.find("error:"), begin = log.rfind('\n', at);
  if (at == log.npos) return "the compiler failed";
  begin = begin == log.npos ? 0 : begin + 1;
  return printable(log.substr(begin, log.find('\n', begin) - begin), 300);
}

// All that `file` includes. A quoted include that is found from a folder above it, as in a project
// with an include/ folder, adds that folder to `roots`.
std::set<fs::path> dependencies_of(const fs::path& file, const Toolchain& toolchain,
                                   std::set<fs::path>& roots) {
  for (;;) {
    std::vector<std::string> argv = {find_compiler().string(), "-std=c++20", "-MM"};
    for (auto& dir : toolchain.include_dirs) argv.insert(argv.end(), {"-isystem", dir});
    for (auto& dir : roots) argv.insert(argv.end(), {"-iquote", dir.string()});
    argv.insert(argv.end(), {"-x", "c++", file.string()});
    // These sources are this program's own, wherever they lie: no sandbox could know what to show.
    ProcessResult result =
        run_sandboxed(Sandbox::none, {argv, fs::temp_directory_path(), fs::current_path()});
    if (result.exit_code == 0) {
      std::set<fs::path> files;
      for (auto& name : parse_dependencies(result.output)) files.insert(fs::canonical(name));
      return files;
    }
    std::string missing = missing_include(result.output);
    fs::path root = file.parent_path();
    while (!missing.empty() && root.has_relative_path() && !fs::exists(root / missing))
      root = root.parent_path();
    if (missing.empty() || !root.has_relative_path() || !roots.insert(root).second)
      throw CompileError(
          file.string() + ": cannot be shared: " + first_error(result.output) +
              "; shared code may include, in quotes, files from its own folder or a folder above, "
              "and in angle brackets the standard library, torch and pretrained",
          argv[0] + " -MM", result.output);
  }
}

// The header that stands for a class: its own file, or beside a .cpp with its constructor the
// header of the same stem.
fs::path header_of(const fs::path& file) {
  if (file.extension() == ".h" || file.extension() == ".hpp") return file;
  for (auto* extension : {".h", ".hpp"})
    if (fs::path header = fs::path(file).replace_extension(extension); fs::exists(header))
      return header;
  throw ArgumentError("a class registered for an Auto class is written in " + file.string() +
                      ", and there is no header of that name beside it: move the class to a header "
                      "(.h) so that it can be shared");
}

}  // namespace

// "a.o: b.h \\\n c.h" → the files.
std::vector<std::string> parse_dependencies(const std::string& rule) {
  std::vector<std::string> files;
  std::string current;
  size_t begin = rule.find(": ");
  for (size_t i = begin == rule.npos ? rule.size() : begin + 2; i <= rule.size(); ++i) {
    char c = i < rule.size() ? rule[i] : ' ';
    if (c == '\\' && i + 1 < rule.size() && rule[i + 1] == '\n') {
      ++i;
    } else if (c == '\\' && i + 1 < rule.size() && (rule[i + 1] == ' ' || rule[i + 1] == '#')) {
      current += rule[++i];
    } else if (c == '$' && i + 1 < rule.size() && rule[i + 1] == '$') {
      current += rule[++i];
    } else if (c == ' ' || c == '\n') {
      if (!current.empty()) files.push_back(std::exchange(current, {}));
    } else {
      current += c;
    }
  }
  return files;
}

Sources read_sources(const fs::path& folder, const std::vector<std::string>& modules) {
  Reader reader(folder);
  for (auto& module : modules)
    if (!reader.add(module + ".h") && !reader.add(module + ".hpp"))
      throw NotFoundError(folder.string() + ": 'auto_map_cpp' names the module '" +
                          printable(module) + "', but there is neither " + printable(module) +
                          ".h nor " + printable(module) +
                          ".hpp; name other code with --code DIR or --code org/repo@commit");
  return reader.take();
}

void check_sources(const Sources& sources, const fs::path& root) {
  std::set<fs::path> included, embedded;
  std::map<fs::path, std::string> faults;
  for (auto& source : sources) {
    try {
      for (auto& include :
           scan_includes(source.bytes, printable((root / source.path).string(), 1000)))
        (include.embedded ? embedded : included).insert(fs::path(include.name).filename());
    } catch (const FormatError& error) {
      faults[fs::path(source.path).filename()] = error.what();
    }
  }
  for (auto& [file, fault] : faults)
    if (included.contains(file) || !embedded.contains(file)) throw FormatError(fault);
}

SourceTree collect_sources(const std::vector<fs::path>& headers, const Toolchain& toolchain) {
  SourceTree tree;
  std::set<fs::path> files, queue;
  std::set<fs::path> roots;
  for (auto& header : headers) {
    if (!fs::exists(header))
      throw NotFoundError(
          header.string() +
          ": the source of a registered class is not here (was the program built elsewhere?)");
    queue.insert(fs::canonical(header_of(header)));
  }
  while (!queue.empty()) {
    fs::path file = *queue.begin();
    queue.erase(queue.begin());
    if (files.contains(file)) continue;
    for (auto& dependency : dependencies_of(file, toolchain, roots)) files.insert(dependency);
    for (auto known : std::set<fs::path>(files))
      for (auto* extension : {".cc", ".cpp"})
        if (fs::path body = known.replace_extension(extension);
            fs::exists(body) && !files.contains(body))
          queue.insert(body);
  }
  tree.root = common_folder(files);
  if (!roots.empty()) {
    // Loading looks from one folder only.
    fs::path above = *roots.begin();
    if (roots.size() > 1 ||
        std::mismatch(above.begin(), above.end(), tree.root.begin(), tree.root.end()).first !=
            above.end())
      throw ArgumentError(files.begin()->string() +
                          ": cannot be shared: its code is included from "
                          "several folders (" +
                          above.string() + ", " +
                          (roots.size() > 1 ? roots.rbegin()->string() : tree.root.string()) +
                          "); put it below one");
    tree.root = above;
  }
  for (auto& file : files)
    tree.sources.push_back(
        {file.lexically_relative(tree.root).generic_string(), read_file(file, kMaxFile)});
  std::sort(tree.sources.begin(), tree.sources.end(),
            [](auto& a, auto& b) { return a.path < b.path; });
  // What loading would refuse is not saved.
  check_sources(tree.sources, tree.root);
  for (auto& header : headers)
    tree.modules[header] = fs::canonical(header_of(header))
                               .lexically_relative(tree.root)
                               .replace_extension()
                               .generic_string();
  return tree;
}

std::string digest(const Sources& sources) {
  Sha256 hash;
  for (auto& source : sources) hash.update_framed(source.path).update_framed(source.bytes);
  return hash.hex();
}

}  // namespace pretrained::code
