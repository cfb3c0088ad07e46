#include "pretrained/model/custom_code.h"

#include <torch/version.h>

#include <algorithm>
#include <mutex>
#include <regex>
#include <set>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/base/process.h"
#include "pretrained/base/sha256.h"
#include "pretrained/base/version.h"
#include "pretrained/code/build.h"
#include "pretrained/hub/client.h"
#include "pretrained/hub/lock.h"

namespace pretrained {
namespace fs = std::filesystem;
namespace {

std::mutex table_mutex;
std::map<std::string, std::unique_ptr<ClassTable>>& tables() {
  static auto* const tables = new std::map<std::string, std::unique_ptr<ClassTable>>;
  return *tables;
}

// The file that makes the classes reachable by name. Every pasted name has passed the grammar of
// code::Reference.
std::string entry_stub(const AutoMap& auto_map, const code::Sources& sources) {
  std::string includes, lines;
  std::set<std::string> seen;
  for (auto& [auto_class, reference] : auto_map) {
    if (seen.insert(reference.module).second) {
      bool is_h = false;
      for (auto& source : sources) is_h = is_h || source.path == reference.module + ".h";
      includes += "#include \"" + reference.module + (is_h ? ".h" : ".hpp") + "\"\n";
    }
    std::string getter = auto_class == "AutoConfig" ? "config_class" : "model_class";
    lines += "  table.add(\"" + auto_class + "\", pretrained::" + getter +
             "<::" + reference.class_name + ">());\n";
  }
  return includes + "#include \"pretrained/model/custom_code.h\"\n" +
         "extern \"C\" __attribute__((visibility(\"default\"))) void " + kCustomCodeEntry +
         "(pretrained::ClassTable& table) {\n" + lines + "}\n";
}

// Of every header that shared code can include: a changed one makes another key, so that neither
// compiled code nor the precompiled header of an older layout is ever used.
std::string digest_headers(const fs::path& folder) {
  std::vector<fs::path> headers;
  for (auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.path().extension() == ".h") headers.push_back(entry.path());
  std::sort(headers.begin(), headers.end());
  Sha256 hash;
  for (auto& header : headers)
    hash.update_framed(header.lexically_relative(folder).string()).update_framed(read_file(header));
  return hash.hex();
}

// A class that is not there shows up in the file we made; say it in the author's terms.
[[noreturn]] void rethrow(const CompileError& error, const Located& at, const AutoMap& auto_map) {
  static const std::regex pattern("entry[.]cpp:[0-9]+:[0-9]+: error: .*");
  std::smatch match;
  if (std::regex_search(error.log, match, pattern))
    for (auto& [auto_class, reference] : auto_map)
      if (match[0].str().find("<::" + reference.class_name + ">") != std::string::npos ||
          match[0].str().find("'" + reference.class_name + "'") != std::string::npos)
        throw CompileError(at.name() + "/config.json: field 'auto_map_cpp." + auto_class +
                               "': " + reference.module + " does not define a class '" +
                               reference.class_name +
                               "' that can be used as one: " + printable(match[0].str(), 300),
                           error.command, error.log);
  throw CompileError(at.name() + ": " + error.what(), error.command, error.log);
}

template <class F>
decltype(auto) with_readable_errors(const Located& at, const AutoMap& auto_map, F&& body) {
  try {
    return body();
  } catch (const CompileError& error) {
    rethrow(error, at, auto_map);
  } catch (const FormatError& error) {
    throw FormatError(at.name() + ": " + error.what());
  }
}

}  // namespace

code::Toolchain toolchain(const Notice& notice) {
  // Our headers: beside an installed library, else where this build was made from.
  fs::path ours = library_of(reinterpret_cast<const void*>(&toolchain));
  fs::path hub = library_of(reinterpret_cast<const void*>(&printable));
  fs::path torch = library_of(reinterpret_cast<const void*>(&at::detail::getXPUHooks));
  fs::path installed = ours.parent_path().parent_path() / "include";
  fs::path headers =
      fs::exists(installed / "pretrained/model.h") ? installed : fs::path(PRETRAINED_SOURCE_DIR);
  fs::path torch_root = torch.parent_path().parent_path();

  code::Toolchain toolchain;
  toolchain.include_dirs = {headers, torch_root / "include",
                            torch_root / "include/torch/csrc/api/include"};
  toolchain.libraries = {ours, hub, torch_root / "lib/libtorch_cpu.so",
                         torch_root / "lib/libtorch.so", torch_root / "lib/libc10.so"};
  toolchain.pch_header =
      "#include <pretrained/model.h>\n#include <pretrained/model/custom_code.h>\n"
      "#include <pretrained/nn/timm_resnet.h>\n#include <torch/nn/functional/loss.h>\n";
  toolchain.fingerprint = std::string("pretrained ") + kVersion + " " +
                          digest_headers(headers / "pretrained") + " torch " + TORCH_VERSION + " " +
                          torch.string() + " " + std::to_string(fs::file_size(torch));
  toolchain.api_level = kApiLevel;
  toolchain.cache_dir = code::default_cache_dir();
  toolchain.secret_file = code::default_secret_file();
  toolchain.notice = notice;
  return toolchain;
}

AutoMap read_auto_map(const Json& config, const std::string& source) {
  AutoMap auto_map;
  auto* entries = config.find("auto_map_cpp");
  if (!entries) return auto_map;
  std::map<std::string, std::string> texts;
  read_field(*entries, texts, {source, "auto_map_cpp"});
  for (auto& [auto_class, text] : texts) {
    bool named = auto_class.starts_with("Auto") && auto_class.size() <= 100;
    for (unsigned char c : auto_class) named = named && c < 0x80 && std::isalnum(c);
    if (!named)
      throw FormatError(source + ": field 'auto_map_cpp': '" + printable(auto_class) +
                        "' is no Auto class");
    auto_map[auto_class] = code::parse_reference(text, source);
  }
  return auto_map;
}

namespace {

// The one other repository that all of the code lies in; nullptr where it lies beside the weights.
const code::Reference* foreign_code(const Located& model, const AutoMap& auto_map) {
  const code::Reference* elsewhere = nullptr;
  size_t foreign = 0;
  for (auto& [auto_class, reference] : auto_map) {
    if (reference.repo.empty()) continue;
    if (elsewhere && (elsewhere->repo != reference.repo || elsewhere->commit != reference.commit))
      throw FormatError(model.name() + ": field 'auto_map_cpp': '" + elsewhere->text() + "' and '" +
                        reference.text() + "': classes of one model come from one repository");
    elsewhere = &reference;
    ++foreign;
  }
  if (elsewhere && foreign < auto_map.size())
    throw FormatError(model.name() + ": field 'auto_map_cpp': '" + elsewhere->text() +
                      "' is in another repository and others are not: classes of one model come "
                      "from one repository");
  return elsewhere;
}

Located code_location(const Located& model, const AutoMap& auto_map,
                      const FromPretrained& options) {
  auto* elsewhere = foreign_code(model, auto_map);
  if (!elsewhere) return model;
  return locate_code(elsewhere->repo + "@" + elsewhere->commit, options, model.client);
}

// Errors name the repository and its commit, not where its files are cached.
code::Sources read_code(const Located& at, const std::vector<std::string>& modules) {
  auto named = [&](std::string text) {
    if (auto folder = at.folder.string(); text.starts_with(folder))
      text.replace(0, folder.size(), at.name());
    return text;
  };
  try {
    return code::read_sources(at.folder, modules);
  } catch (const NotFoundError& error) {
    throw NotFoundError(named(error.what()));
  } catch (const FormatError& error) {
    throw FormatError(named(error.what()));
  }
}

// Who wrote the commit and when, for a person to read; nothing depends on it.
void describe_commit(const Located& at, const FromPretrained& options, CodeReview& review) {
  if (at.repo.empty() || options.local_files_only) return;
  try {
    auto commits = at.client->list_commits({at.repo}, at.commit, 1);
    if (commits.empty() || commits[0].oid != at.commit) return;
    review.date = commits[0].date;
    for (auto& author : commits[0].authors)
      review.author += (review.author.empty() ? "" : ", ") + author;
  } catch (const Error&) {  // then it is not known
  }
}

// The bytes must be those that the hub named, and those of the lock: somebody may have written to
// the cache since.
void check_bytes(const Located& at, const code::Sources& files) {
  for (auto& file : files) {
    std::string path = (fs::path(at.subfolder) / file.path).generic_string();
    if (!at.repo.empty()) hub::check_cached_bytes(at.root(), path, file.bytes);
    if (!at.lock) continue;
    auto locked = at.lock->files.find(path);
    if (locked == at.lock->files.end() || locked->second.sha256 != sha256_hex(file.bytes))
      throw FormatError(at.name() + ": " + path + " is not what the lock holds");
  }
}

struct FoundCode {
  Located at;
  CodeReview review;
};

FoundCode find_code(const Located& model, const AutoMap& auto_map, const FromPretrained& options) {
  Located at = code_location(model, auto_map, options);
  std::set<std::string> modules;
  for (auto& [auto_class, reference] : auto_map) modules.insert(reference.module);
  std::string name = at.repo.empty() ? at.folder.string() : at.repo;
  if (!at.repo.empty() && !at.subfolder.empty()) name += "/" + at.subfolder;
  CodeReview review = code::review_code(name, at.commit,
                                        read_code(at, {modules.begin(), modules.end()}), kApiLevel);
  review.pinned = at.pinned;
  check_bytes(at, review.files);
  return {std::move(at), std::move(review)};
}

// Saved again, the code lies beside the weights.
AutoMap beside(AutoMap auto_map) {
  for (auto& [auto_class, reference] : auto_map) reference.repo = reference.commit = "";
  return auto_map;
}

}  // namespace

CodeReview review_custom_code(const Located& model, const AutoMap& auto_map,
                              const FromPretrained& options) {
  auto [at, review] = find_code(model, auto_map, options);
  describe_commit(at, options, review);
  return review;
}

const ClassTable& load_custom_code(const Located& model, const AutoMap& auto_map,
                                   const FromPretrained& options) {
  if (auto* elsewhere = foreign_code(model, auto_map))
    options.trust_remote_code.require_possible(elsewhere->repo, elsewhere->commit);
  FoundCode found = find_code(model, auto_map, options);
  const Located& at = found.at;
  options.trust_remote_code.require(found.review, options.notice, [&](CodeReview& shown) {
    describe_commit(at, options, shown);
  });
  code::Sources& sources = found.review.files;
  std::string stub = entry_stub(auto_map, sources);
  std::string key = found.review.digest + "\n" + stub;
  std::lock_guard lock(table_mutex);
  auto& table = tables()[key];
  if (table) return *table;
  auto& library = with_readable_errors(at, auto_map, [&]() -> const code::Library& {
    return code::load(sources, stub, kCustomCodeEntry, toolchain(options.notice));
  });
  auto* entry = reinterpret_cast<void (*)(ClassTable&)>(library.symbol(kCustomCodeEntry));
  auto loaded = std::make_unique<ClassTable>();
  entry(*loaded);
  loaded->sources = std::move(sources);
  loaded->references = beside(auto_map);
  table = std::move(loaded);
  return *table;
}

CompiledCode compile_custom_code(const Located& model, const AutoMap& auto_map,
                                 const FromPretrained& options) {
  FoundCode found = find_code(model, auto_map, options);
  code::Sources& sources = found.review.files;
  FileDescriptor library = with_readable_errors(found.at, auto_map, [&] {
    return code::build(sources, entry_stub(auto_map, sources), kCustomCodeEntry,
                       toolchain(options.notice));
  });
  return {std::move(sources), beside(auto_map), std::move(library)};
}

const ModelClass& adopt_foreign_class(const CompiledCode& code, const code::Reference& reference,
                                      const std::string& auto_class, const ConfigClass& config,
                                      const std::vector<std::string>& inputs) {
  std::lock_guard lock(table_mutex);
  std::string key =
      "isolated\n" + code::digest(code.sources) + "\n" + auto_class + "\n" + reference.text();
  auto& table = tables()[key];
  if (!table) {
    auto* own_config = new ConfigClass(config);
    auto* model = new ModelClass{
        reference.class_name, own_config, inputs, [](const ConfigBase&) -> std::shared_ptr<Model> {
          throw Error("a model that runs isolated is not made here: load it by its name");
        }};
    table = std::make_unique<ClassTable>();
    table->configs["AutoConfig"] = own_config;
    table->models[auto_class] = model;
    table->sources = code.sources;
    table->references = code.auto_map;
  }
  return *table->models.at(auto_class);
}

const ClassTable* find_custom_code(const ConfigClass& config_class) {
  std::lock_guard lock(table_mutex);
  for (auto& [key, table] : tables()) {
    if (!table) continue;
    for (auto& [auto_class, config] : table->configs)
      if (config == &config_class) return table.get();
    for (auto& [auto_class, model] : table->models)
      if (model->config == &config_class) return table.get();
  }
  return nullptr;
}

}  // namespace pretrained
