#include "pretrained/model/locate.h"

#include <algorithm>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/hub/download.h"
#include "pretrained/hub/lock.h"
#include "pretrained/model/weights.h"
#include "pretrained/safetensors/index.h"

namespace pretrained {
namespace fs = std::filesystem;
namespace {

// What a model is made of besides its weights. Python's code is kept for saving again.
const std::vector<std::string> kSmallFiles = {"*.json", "*.h",   "*.hpp",   "*.hh",
                                              "*.inc",  "*.cc",  "*.cpp",   "*.cxx",
                                              "*.py",   "*.txt", "*.model", "*.jinja"};

// Of them, before anything is known about the model: whoever names it has not asked for more.
constexpr uint64_t kSmallFile = 64 << 20, kSmallFilesTotal = 256 << 20;

void check_subfolder(const std::string& name, const std::string& subfolder) {
  bool bad = subfolder.find_first_of("*?[\\") != subfolder.npos;
  for (auto& part : fs::path(subfolder)) bad = bad || part == ".." || part.has_root_directory();
  if (bad)
    throw ArgumentError("subfolder '" + printable(subfolder) + "' leads out of " + printable(name));
}

using Client = std::shared_ptr<const hub::HubClient>;

Client client_for(const FromPretrained& options) {
  hub::ClientOptions client;
  if (!options.token.empty()) client.token = options.token;
  client.offline = options.local_files_only;
  client.notice = options.notice;
  return std::make_shared<const hub::HubClient>(client);
}

hub::Download download_of(const std::string& revision, std::vector<std::string> patterns,
                          const FromPretrained& options) {
  return {.revision = revision,
          .cache_dir = options.cache_dir,
          .allow_patterns = std::move(patterns),
          .force_download = options.force_download,
          .local_files_only = options.local_files_only,
          .on_transfer = options.on_transfer};
}

hub::Snapshot fetch(const hub::HubClient& client, const std::string& repo,
                    const std::string& revision, std::vector<std::string> patterns,
                    const FromPretrained& options) {
  return hub::snapshot_download(client, {repo},
                                download_of(revision, std::move(patterns), options));
}

hub::Snapshot fetch_small_files(const hub::HubClient& client, const std::string& repo,
                                const std::string& revision, const FromPretrained& options) {
  auto download = download_of(revision, kSmallFiles, options);
  download.max_file_size = kSmallFile;
  download.max_total_size = kSmallFilesTotal;
  return hub::snapshot_download(client, {repo}, download);
}

std::string choose_revision(const hub::RepoReference& named, const std::string& name,
                            const std::string& option) {
  if (named.revision.empty()) return option;
  if (option != "main" && !option.empty() && option != named.revision)
    throw ArgumentError(printable(name) + " names one revision and the option another: '" +
                        printable(option) + "'");
  return named.revision;
}

// Whoever names a commit means those bytes, and no folder that somebody could call the same.
bool is_folder(const std::string& name, const std::optional<hub::RepoReference>& repo) {
  std::error_code error;
  return !(repo && hub::is_commit_hash(repo->revision)) && fs::is_directory(name, error);
}

Located from_hub(const Client& client, const hub::RepoReference& repo, const std::string& revision,
                 const FromPretrained& options) {
  auto no_folder = [&](const Error& error) {
    return hub::extended(error.what(), " (nor is there a folder '" + repo.id + "' here)");
  };
  try {
    auto snapshot = fetch_small_files(*client, repo.id, revision, options);
    return {snapshot.folder,
            snapshot.folder / "config.json",
            repo.id,
            snapshot.commit,
            "",
            hub::is_commit_hash(revision),
            client};
  } catch (const hub::RepositoryNotFound& error) {
    throw hub::RepositoryNotFound(no_folder(error));
  } catch (const hub::OfflineError& error) {
    throw hub::OfflineError(no_folder(error));
  }
}

std::shared_ptr<const hub::Lock> read_lock(const fs::path& file) {
  if (file.empty()) return {};
  return std::make_shared<const hub::Lock>(hub::parse_lock(read_file(file), file.string()));
}

// What a name without a revision stands for.
std::string locked_revision(const hub::Lock& lock, const hub::RepoReference& repo,
                            const std::string& revision, const FromPretrained& options) {
  if (lock.repository != repo.id)
    throw FormatError(options.lock.string() + ": it is of " +
                      (lock.repository.empty() ? "a folder" : printable(lock.repository)) +
                      ", not of " + repo.id + "; write one with pretrained lock " + repo.id);
  bool said = !repo.revision.empty() || (revision != "main" && !revision.empty());
  return said ? revision : lock.commit;
}

void throw_not_locked(const Located& model, const std::vector<std::string>& problems,
                      const FromPretrained& options) {
  constexpr size_t kShown = 5;
  std::string list;
  for (size_t i = 0; i < std::min(problems.size(), kShown); ++i) list += "; " + problems[i];
  if (problems.size() > kShown)
    list += "; and " + std::to_string(problems.size() - kShown) + " more";
  throw FormatError(model.name() + ": not as " + options.lock.string() +
                    " says: " + list.substr(2));
}

void check_locked(const Located& model, const std::vector<std::string>& patterns,
                  const FromPretrained& options) {
  if (!model.lock) return;
  if (!model.repo.empty() && model.commit != model.lock->commit)
    throw_not_locked(model, {"locked is commit " + model.lock->commit}, options);
  auto problems = hub::check_lock(model.root(), *model.lock, patterns);
  if (!problems.empty()) throw_not_locked(model, problems, options);
}

}  // namespace

std::string Located::name() const { return repo.empty() ? folder.string() : repo + "@" + commit; }

fs::path Located::root() const {
  fs::path root = folder;
  for (auto& part : fs::path(subfolder))
    if (!part.empty()) root = root.parent_path();
  return root;
}

Located locate(const std::string& name, const FromPretrained& options) {
  std::error_code error;
  fs::path path = name;
  if (fs::is_regular_file(path, error) && options.subfolder.empty() && options.lock.empty())
    return {path.has_parent_path() ? path.parent_path() : ".", path, "", ""};
  Located found;
  auto lock = read_lock(options.lock);
  check_subfolder(name, options.subfolder);
  auto repo = hub::parse_repo_reference(name);
  if (is_folder(name, repo)) {
    if (!options.revision.empty() && options.revision != "main")
      throw ArgumentError(printable(name) + " is a folder, which has no revision '" +
                          printable(options.revision) + "'");
    found.folder = path;
  } else {
    if (!repo)
      throw NotFoundError(printable(name) +
                          ": no such folder, and no name of a repository (org/name)");
    std::string revision = choose_revision(*repo, name, options.revision);
    if (lock) revision = locked_revision(*lock, *repo, revision, options);
    found = from_hub(client_for(options), *repo, revision, options);
  }
  found.lock = std::move(lock);
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
  check_locked(found, kSmallFiles, options);
  return found;
}

void fetch_weights(const Located& model, const FromPretrained& options) {
  if (!model.repo.empty()) {
    std::string folder = model.subfolder.empty() ? "" : model.subfolder + "/";
    std::string whole = safetensors::weights_name(options.variant);
    std::string stem = whole.substr(0, whole.size() - std::string(".safetensors").size());
    std::string index = safetensors::index_name(options.variant);
    auto snapshot =
        fetch(*model.client, model.repo, model.commit,
              {folder + whole, folder + stem + "-*-of-*.safetensors", folder + index}, options);
    std::string old =
        options.variant.empty() ? "pytorch_model" : "pytorch_model." + options.variant;
    if (snapshot.files.empty())
      fetch(*model.client, model.repo, model.commit, {folder + old + ".bin"}, options);
  }
  if (!model.lock) return;
  std::vector<std::string> used;
  for (auto& file : weights_files(model.folder, options.variant))
    used.push_back((fs::path(model.subfolder) / file).generic_string());
  check_locked(model, used, options);
}

Located locate_code(const std::string& name, const FromPretrained& options, Client client) {
  auto repo = hub::parse_repo_reference(name);
  if (is_folder(name, repo)) return {name, fs::path(name) / "config.json", "", ""};
  if (!repo)
    throw NotFoundError(printable(name) +
                        ": no such folder of code, and no name of a repository (org/name@commit)");
  if (!client) client = client_for(options);
  FromPretrained plain = options;
  plain.revision = plain.subfolder = "";
  std::string revision = options.code_revision.empty() ? repo->revision : options.code_revision;
  if (!hub::is_commit_hash(revision)) {
    std::string now = client->resolve_revision({repo->id}, revision.empty() ? "main" : revision);
    throw ArgumentError(
        "code of " + repo->id +
        ": name the commit that you have read, for a branch can change under you: " + repo->id +
        "@" + now + " is what '" + printable(revision.empty() ? "main" : revision) +
        "' stands for now");
  }
  return from_hub(client, *repo, revision, plain);
}

}  // namespace pretrained
