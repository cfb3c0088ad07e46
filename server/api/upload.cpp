#include <algorithm>
#include <array>
#include <mutex>
#include <set>

#include "server/api/changes.h"
#include "server/api/commit_reader.h"
#include "server/api/path_rules.h"
#include "server/repos/discussions.h"

namespace pretrained::server {
namespace {

// ---- preupload ----------------------------------------------------------------------------------

constexpr uint64_t kRegularLimit = 10 << 20;  // larger files are LFS, whatever they are
constexpr uint64_t kBinaryLimit = 100 << 10;  // larger binary files too, where no rule says
constexpr size_t kFilesLimit = 1000;

// NUL, or no UTF-8; a character cut off at the end of the sample is fine.
bool is_binary(std::string_view sample) {
  for (size_t i = 0; i < sample.size();) {
    auto c = static_cast<unsigned char>(sample[i]);
    size_t length = c < 0x80                ? 1
                    : c >= 0xc2 && c < 0xe0 ? 2
                    : (c & 0xf0) == 0xe0    ? 3
                    : c >= 0xf0 && c < 0xf5 ? 4
                                            : 0;
    if (c == 0 || length == 0) return true;
    for (size_t k = 1; k < length && i + k < sample.size(); ++k)
      if ((sample[i + k] & 0xc0) != 0x80) return true;
    i += length;
  }
  return false;
}

struct UploadFile {
  std::string path, sample;
  uint64_t size = 0;
};

UploadFile read_upload_file(const Json& item) {
  UploadFile file;
  file.path = string_field(item, "path");
  std::string encoded = optional_string_field(item, "sample").value_or("");
  auto sample = decode_strict_base64(encoded);
  if (!sample) throw HttpError(400, "", "field 'sample': expected base64");
  file.sample = std::move(*sample);
  const Json* size = item.find("size");
  const int64_t* number = size ? size->get_if<int64_t>() : nullptr;
  if (!number || *number < 0) throw HttpError(400, "", "field 'size': expected a number of bytes");
  file.size = uint64_t(*number);
  return file;
}

bool is_lfs(const UploadFile& file, AttributeRules& attributes) {
  if (file.size == 0) return false;
  if (file.size > kRegularLimit) return true;
  if (auto rule = attributes.is_lfs(file.path)) return *rule;
  return file.size > kBinaryLimit && is_binary(file.sample);
}

// The text of a rules file in a folder of the commit; what the request sends stands for the root's.
PathRules::Read rules_of(GitView& view, const Oid& commit, const std::string& name,
                         const std::optional<std::string>& sent) {
  return [&view, commit, name, sent](const std::string& folder) -> std::optional<std::string> {
    if (folder.empty() && sent) return sent;
    if (commit == kNoOid) return std::nullopt;
    auto entry = view.entry(commit, folder.empty() ? name : folder + "/" + name);
    constexpr uint64_t limit = 256 << 10;
    if (!entry || entry->kind != TreeEntry::Kind::file || entry->size > limit) return std::nullopt;
    return view.read_blob(entry->oid, limit);
  };
}

std::optional<std::string> content_oid(GitView& view, const Oid& commit, const std::string& path) {
  auto entry = commit == kNoOid ? std::nullopt : view.entry(commit, path);
  if (!entry || entry->kind != TreeEntry::Kind::file) return std::nullopt;
  auto pointer = view.pointer(*entry);
  return pointer ? pointer->sha256 : entry->oid;
}

Response preupload(Call& call) {
  const std::string& revision = call.captures.at("revision");
  Repo repo = require_writable(call, revision, call.request.flag("create_pr"));
  Branch branch = require_branch(call, repo, revision);
  Json body = read_json(call, 8 << 20);
  const Json* files = body.find("files");
  const auto* list = files ? files->get_if<Json::Array>() : nullptr;
  if (!list) throw HttpError(400, "", "field 'files': expected a list");
  if (list->size() > kFilesLimit)
    throw HttpError(413, "", "files: at most " + std::to_string(kFilesLimit) + " in one request");

  auto view = call.services.git.open(repo.access.id);
  AttributeRules attributes(
      rules_of(*view, branch.head, ".gitattributes", optional_string_field(body, "gitAttributes")));
  IgnoreRules ignores(
      rules_of(*view, branch.head, ".gitignore", optional_string_field(body, "gitIgnore")));
  Json::Array answers;
  for (const auto& item : *list) {
    UploadFile file = read_upload_file(item);
    Json::Object answer{{"path", file.path},
                        {"uploadMode", is_lfs(file, attributes) ? "lfs" : "regular"},
                        {"shouldIgnore", ignores.ignored(file.path)}};
    if (auto oid = content_oid(*view, branch.head, file.path)) answer["oid"] = *oid;
    answers.push_back(std::move(answer));
  }
  Json::Object answer{{"files", std::move(answers)}};
  if (branch.head != kNoOid) answer["commitOid"] = branch.head;
  return json_response(std::move(answer));
}

// ---- commit -------------------------------------------------------------------------------------

struct Commit {
  CommitHeader header;
  NewCommit change;
  std::optional<StagedBlob> file;    // where the contents of its files lie that are not small
  std::vector<std::string> objects;  // SHA-256 of its LFS files
};

// Pointers of the LFS files, whose objects this repository must have.
void add_pointers(Call& call, const Repo& repo, std::vector<CommitOperation>& files,
                  std::vector<size_t>& places, Commit& commit) {
  std::vector<std::string> wanted;
  for (const auto& file : files) wanted.push_back(file.oid);
  auto objects = call.services.content.objects(repo.access.id, wanted);
  for (size_t i = 0; i < files.size(); ++i) {
    const auto& file = files[i];
    if (!objects[i])
      throw HttpError(400, "",
                      "The LFS object " + file.oid + " of " + printable(file.path) +
                          " was not uploaded to " + repo.full_name());
    if (file.size && *file.size != objects[i]->size)
      throw HttpError(400, "",
                      printable(file.path) + ": the LFS object " + file.oid + " has " +
                          std::to_string(objects[i]->size) + " bytes, not " +
                          std::to_string(*file.size));
    commit.change.changes[places[i]].content = LfsPointer{file.oid, objects[i]->size}.text();
  }
  commit.objects = std::move(wanted);
}

Commit read_commit(Call& call, const Repo& repo) {
  CommitLimits limits;
  limits.body_bytes = call.services.options.commit_body_limit;
  limits.operations = call.services.options.commit_operations_limit;
  Body& body = *call.request.body;
  if (body.length().value_or(0) > limits.body_bytes)
    throw HttpError(
        413, "",
        "The body of a commit has at most " + std::to_string(limits.body_bytes) + " bytes");
  CommitReader reader([&](char* data, size_t size) { return body.read(data, size); },
                      [&] { return call.services.blobs.stage(body.length().value_or(0)); }, limits);
  MemoryShare& memory = *call.request.memory;

  Commit commit;
  commit.header = reader.header();
  commit.change.title = commit.header.summary;
  commit.change.message = commit.header.description;
  commit.change.author = commit_author(call.caller);
  std::vector<CommitOperation> lfs_files;
  std::vector<size_t> places;  // of the LFS files among the changes
  bool staged = false;
  while (auto operation = reader.next()) {
    using Kind = CommitOperation::Kind;
    FileChange change;
    change.path = operation->path;
    change.content = std::move(operation->content.text);
    change.piece = operation->content.piece;
    memory.take(sizeof change + change.path.size() + change.content.size());
    if (change.piece && !staged) memory.take(limits.contents.file);  // one at a time is read back
    staged |= change.piece.has_value();
    if (operation->kind == Kind::delete_file) change.kind = FileChange::Kind::remove_file;
    if (operation->kind == Kind::delete_folder) change.kind = FileChange::Kind::remove_folder;
    if (operation->kind == Kind::lfs_file) {
      places.push_back(commit.change.changes.size());
      lfs_files.push_back(std::move(*operation));
    }
    commit.change.changes.push_back(std::move(change));
  }
  commit.file = reader.take_file();
  if (!lfs_files.empty()) add_pointers(call, repo, lfs_files, places, commit);
  return commit;
}

void check_parent(const Commit& commit, const Branch& branch) {
  // Clients may send an abbreviation of at least 7 digits.
  const auto& parent = commit.header.parent;
  if (parent && (parent->size() < 7 || !branch.head.starts_with(*parent)))
    throw HttpError(412, "",
                    "A commit has happened since: the head is " + branch.head + ", not " +
                        printable(*parent) + ". Please refresh and try again.");
}

std::optional<GitStore::Stored> write(Call& call, const Repo& repo, const Branch& branch,
                                      const Commit& commit) {
  try {
    return call.services.git.write_commit(repo.access.id, branch.parents(), commit.change);
  } catch (const NotFoundError& e) {
    Headers headers;
    headers.set("X-Repo-Commit", branch.head);
    throw HttpError(404, "EntryNotFound", e.what(), headers);
  }
}

// Commits of one repository wait for each other here; only another process or a push can still come
// in between.
std::mutex& turn_of(const Repo& repo) {
  static std::array<std::mutex, 64> turns;
  return turns[size_t(repo.access.id) % turns.size()];
}

// The head of the reference after the commit. A commit that names no parent means "on top of what
// is there", so it is made again where another one came first.
Oid publish_commit(Call& call, const Repo& repo, const std::string& reference,
                   const Commit& commit) {
  std::lock_guard turn(turn_of(repo));
  for (int attempt = 1;; ++attempt) {
    Branch branch = require_branch(call, repo, reference);
    check_parent(commit, branch);
    auto stored = write(call, repo, branch, commit);
    if (!stored) return branch.head;
    try {
      call.services.repos.publish(call.caller, repo, {*stored},
                                  {{branch.reference, branch.head, stored->commit}},
                                  commit.objects);
      return stored->commit;
    } catch (const RefConflict&) {
      if (attempt == 5) throw;
    }
  }
}

Discussion open_pull_request(Call& call, const Repo& repo, const Branch& branch,
                             const Commit& commit, Oid& head) {
  check_parent(commit, branch);
  PullRequestContent content;
  content.head = branch.head;
  if (auto stored = write(call, repo, branch, commit)) {
    content.packs.push_back(*stored);
    content.head = stored->commit;
    content.objects = commit.objects;
  }
  head = content.head;
  Discussions discussions(call.services.database, call.services.git, call.services.repos);
  return discussions.open_pull_request(call.caller, repo, commit.header.summary,
                                       commit.header.description, false, content, branch.reference);
}

Response commit(Call& call) {
  const std::string& revision = call.captures.at("revision");
  bool create_pr = call.request.flag("create_pr");
  Repo repo = require_writable(call, revision, create_pr);
  Branch branch = require_branch(call, repo, revision);
  if (create_pr && branch.head == kNoOid)
    throw HttpError(400, "", "A pull request needs a branch with a commit to start from");
  Commit commit = read_commit(call, repo);

  Json::Object answer{{"success", true}, {"hookOutput", ""}};
  Oid head;
  if (create_pr) {
    auto opened = open_pull_request(call, repo, branch, commit, head);
    answer["pullRequestUrl"] = repo_url(call, repo) + "/discussions/" + std::to_string(opened.num);
  } else {
    head = publish_commit(call, repo, branch.reference, commit);
    if (head == kNoOid)
      throw HttpError(400, "", "The first commit of a repository changes nothing");
  }
  answer["commitOid"] = head;
  answer["commitUrl"] = repo_url(call, repo) + "/commit/" + head;
  return json_response(std::move(answer));
}

}  // namespace

std::vector<Route<ApiHandler>> upload_routes() {
  const std::string repo = kRepoPattern;
  return {
      {"POST", repo + "/preupload/{revision}", preupload},
      {"POST", repo + "/commit/{revision}", commit},
  };
}

}  // namespace pretrained::server
