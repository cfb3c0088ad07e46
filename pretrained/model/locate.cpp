#include "pretrained/model/locate.h"

#include "pretrained/base/error.h"
#include "pretrained/hub/download.h"
#include "pretrained/safetensors/index.h"

namespace pretrained {
namespace fs = std::filesystem;
namespace {

// What a model is made of besides its weights. Python's code is kept for saving again.
const std::vector<std::string> kSmallFiles = {"*.json", "*.h",   "*.hpp",   "*.hh",
                                              "*.inc",  "*.cc",  "*.cpp",   "*.cxx",
                                              "*.py",   "*.txt", "*.model", "*.jinja"};

void check_subfolder(const std::string& name, const std::string& subfolder) {
  bool bad = subfolder.find_first_of("*?[\\") != subfolder.npos;
  for (auto& part : fs::path(subfolder)) bad = bad || part == ".." || part.has_root_directory();
  if (bad)
    throw ArgumentError("subfolder '" + printable(subfolder) + "' leads out of " + printable(name));
}

hub::HubClient client_for(const FromPretrained& options) {
  hub::ClientOptions client;
  if (!options.token.empty()) client.token = options.token;
  client.offline = options.local_files_only;
  return hub::HubClient(client);
}

hub::Snapshot fetch(const std::string& repo, const std::string& revision,
                    std::vector<std::string> patterns, const FromPretrained& options) {
  return hub::snapshot_download(client_for(options), {repo},
                                {.revision = revision,
                                 .cache_dir = options.cache_dir,
                                 .allow_patterns = std::move(patterns),
                                 .force_download = options.force_download,
                                 .local_files_only = options.local_files_only,
                                 .on_transfer = options.on_transfer});
}

std::string choose_revision(const hub::RepoReference& named, const std::string& name,
                            const std::string& option) {
  if (named.revision.empty()) return option;
  if (option != "main" && !option.empty() && option != named.revision)
    throw ArgumentError(printable(name) + " names one revision and the option another: '" +
                        printable(option) + "'");
  return named.revision;
}

Located from_hub(const hub::RepoReference& repo, const std::string& revision,
                 const FromPretrained& options) {
  auto no_folder = [&](const Error& error) {
    return std::string(error.what()) + " (nor is there a folder '" + repo.id + "' here)";
  };
  try {
    auto snapshot = fetch(repo.id, revision, kSmallFiles, options);
    return {snapshot.folder,
            snapshot.folder / "config.json",
            repo.id,
            snapshot.commit,
            "",
            hub::is_commit_hash(revision)};
  } catch (const hub::RepositoryNotFound& error) {
    throw hub::RepositoryNotFound(no_folder(error));
  } catch (const hub::OfflineError& error) {
    throw hub::OfflineError(no_folder(error));
  }
}

}  // namespace

std::string Located::name() const { return repo.empty() ? folder.string() : repo + "@" + commit; }

Located locate(const std::string& name, const FromPretrained& options) {
  std::error_code error;
  fs::path path = name;
  if (fs::is_regular_file(path, error) && options.subfolder.empty())
    return {path.has_parent_path() ? path.parent_path() : ".", path, "", ""};
  Located found;
  check_subfolder(name, options.subfolder);
  if (fs::is_directory(path, error)) {
    found.folder = path;
  } else {
    auto repo = hub::parse_repo_reference(name);
    if (!repo)
      throw NotFoundError(printable(name) +
                          ": no such folder, and no name of a repository (org/name)");
    found = from_hub(*repo, choose_revision(*repo, name, options.revision), options);
  }
  if (!options.subfolder.empty()) {
    found.subfolder = fs::path(options.subfolder).lexically_normal().generic_string();
    found.folder /= found.subfolder;
  }
  found.config_file = found.folder / "config.json";
  if (!fs::is_directory(found.folder, error))
    throw NotFoundError(found.name() + ": no such folder: " + printable(options.subfolder));
  if (!found.repo.empty() && !fs::exists(found.config_file, error))
    throw hub::EntryNotFound(found.name() + ": it holds no " +
                             (options.subfolder.empty() ? "" : printable(options.subfolder) + "/") +
                             "config.json: not a model that can be loaded");
  return found;
}

void fetch_weights(const Located& model, const FromPretrained& options) {
  if (model.repo.empty()) return;
  std::string folder = options.subfolder.empty() ? "" : options.subfolder + "/";
  std::string whole = safetensors::weights_name(options.variant);
  std::string stem = whole.substr(0, whole.size() - std::string(".safetensors").size());
  std::string index = safetensors::index_name(options.variant);
  auto snapshot =
      fetch(model.repo, model.commit,
            {folder + whole, folder + stem + "-*-of-*.safetensors", folder + index}, options);
  if (!snapshot.files.empty()) return;
  std::string old = options.variant.empty() ? "pytorch_model" : "pytorch_model." + options.variant;
  fetch(model.repo, model.commit, {folder + old + ".bin"}, options);
}

Located locate_code(const std::string& name, const FromPretrained& options) {
  std::error_code error;
  if (fs::is_directory(name, error)) return {name, fs::path(name) / "config.json", "", ""};
  auto repo = hub::parse_repo_reference(name);
  if (!repo)
    throw NotFoundError(printable(name) +
                        ": no such folder of code, and no name of a repository (org/name@commit)");
  FromPretrained plain = options;
  plain.revision = plain.subfolder = "";
  std::string revision = options.code_revision.empty() ? repo->revision : options.code_revision;
  if (!hub::is_commit_hash(revision)) {
    std::string now =
        client_for(options).resolve_revision({repo->id}, revision.empty() ? "main" : revision);
    throw ArgumentError(
        "code of " + repo->id +
        ": name the commit that you have read, for a branch can change under you: " + repo->id +
        "@" + now + " is what '" + printable(revision.empty() ? "main" : revision) +
        "' stands for now");
  }
  return from_hub(*repo, revision, plain);
}

}  // namespace pretrained
