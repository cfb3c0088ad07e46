#include <algorithm>
#include <map>
#include <set>

#include "server/git/child.h"
#include "server/git/state.h"

namespace pretrained::server {
namespace fs = std::filesystem;
namespace {

constexpr const char* kEmptyTree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
constexpr uint64_t kMaxPointer = 1024;
constexpr int kMaxDepth = 512;

struct Enough {};  // ends a child whose answer is cut

// "a/b/c" to {"a", "b", "c"}; "" to {}.
std::vector<std::string> split_path(const std::string& path) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin < path.size();) {
    size_t end = std::min(path.find('/', begin), path.size());
    parts.push_back(path.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

class View : public GitView {
 public:
  View(int64_t repo, const Snapshot& snapshot, PathIndex& index, const fs::path& quarantine_folder)
      : repo_(repo), folder_(snapshot.folder), index_(index) {
    if (quarantine_folder.empty()) {
      objects_ = folder_->borrow();
      return;
    }
    environment_ = quarantine(quarantine_folder, folder_->path());
    objects_ = std::make_shared<Objects>(
        std::vector<fs::path>{folder_->path() / "objects", quarantine_folder / "objects"});
  }

  std::optional<CommitInfo> commit(const Oid& oid) override {
    return objects_->commit(from_hex(oid));
  }

  std::optional<TreeEntry> entry(const Oid& commit, const std::string& path) override {
    RawEntry found{040000, "", objects_->tree_of(from_hex(commit))};
    RawTree tree;
    for (auto& part : split_path(path)) {
      if (!found.is_tree()) return std::nullopt;
      tree = objects_->tree(found.oid);
      const RawEntry* next = tree.find(part);
      if (!next) return std::nullopt;
      found = *next;
    }
    return make_entry(path, found);
  }

  void list(const Oid& commit, const std::string& folder, bool recursive, const std::string& after,
            const std::function<bool(const TreeEntry&)>& visit) override {
    auto root = entry(commit, folder);
    if (!root || root->kind != TreeEntry::Kind::folder)
      throw NotFoundError("folder '" + printable(folder) + "': not in commit " + commit);
    std::string rest = after;
    if (!folder.empty() && rest.rfind(folder + "/", 0) == 0) rest.erase(0, folder.size() + 1);
    list_level(from_hex(root->oid), folder, recursive, split_path(rest), visit, 0);
  }

  std::string read_blob(const Oid& oid, uint64_t limit) override {
    return objects_->read(from_hex(oid), GIT_OBJECT_BLOB, limit);
  }

  std::optional<LfsPointer> pointer(const TreeEntry& entry) override {
    if (entry.kind != TreeEntry::Kind::file || entry.size > kMaxPointer) return std::nullopt;
    return LfsPointer::parse(read_blob(entry.oid, kMaxPointer));
  }

  void log(const Oid& from, const std::function<bool(const CommitInfo&)>& visit) override {
    walk({from}, {}, [&](const git_oid& oid) { return visit(*objects_->commit(oid)); });
  }

  uint64_t count_commits(const Oid& from) override {
    uint64_t count = 0;
    walk({from}, {}, [&](const git_oid&) { return ++count > 0; });
    return count;
  }

  bool is_ancestor(const Oid& ancestor, const Oid& of) override {
    if (ancestor == of) return true;
    git_oid older = from_hex(ancestor), newer = from_hex(of);
    int found = git_graph_descendant_of(objects_->repository(), &newer, &older);
    git_check(found, "commit " + of);
    return found == 1;
  }

  std::optional<Oid> merge_base(const Oid& a, const Oid& b) override {
    git_oid base, one = from_hex(a), two = from_hex(b);
    int code = git_merge_base(&base, objects_->repository(), &one, &two);
    if (code == GIT_ENOTFOUND) return std::nullopt;
    git_check(code, "merge base of " + a + " and " + b);
    return to_hex(base);
  }

  std::string diff(const Oid& from, const Oid& to, uint64_t limit) override {
    std::string text;
    GitCall call{{"diff-tree", "-r", "-p", "-M", "--no-color", "--no-ext-diff", "--no-textconv",
                  tree_name(from), tree_name(to)},
                 folder_->path(),
                 environment_};
    call.processor = std::chrono::seconds(30);
    call.silence = std::chrono::seconds(60);
    call.output = [&](std::string_view bytes) {
      text.append(bytes.substr(0, limit - text.size()));
      if (text.size() == limit) throw Enough();
    };
    try {
      GitResult result = run_git(call);
      if (result.exit_code != 0) throw Error("git diff-tree: " + printable(result.errors, 500));
    } catch (const Enough&) {
    }
    return text;
  }

  std::vector<std::string> changed_paths(const Oid& from, const Oid& to) override {
    std::set<std::string> paths;
    compare_trees(*objects_, tree_or_none(from), tree_or_none(to), [&](const TreeChange& change) {
      bool file = (change.before && !change.before->is_tree()) ||
                  (change.after && !change.after->is_tree());
      if (file) paths.insert(join_path(change.folder, change.name));
      return true;
    });
    return {paths.begin(), paths.end()};
  }

  std::vector<LfsPointer> pointers(const std::vector<Oid>& tips,
                                   const std::vector<Oid>& known) override {
    std::string input;
    for (auto& tip : tips) input += to_hex(from_hex(tip)) + "\n";
    for (auto& oid : known)
      if (objects_->type(from_hex(oid)) != GIT_OBJECT_INVALID) input += "^" + oid + "\n";
    GitCall call{{"rev-list", "--objects", "--stdin",
                  "--filter=blob:limit=" + std::to_string(kMaxPointer + 1)},
                 folder_->path(),
                 environment_,
                 read_from(std::move(input))};
    std::vector<LfsPointer> found;
    std::string line;
    call.output = [&](std::string_view bytes) {
      for (char c : bytes) {
        if (c != '\n') {
          if (line.size() < GIT_OID_HEXSZ) line += c;
          continue;
        }
        take_pointer(line, found);
        line.clear();
      }
    };
    GitResult result = run_git(call);
    if (result.exit_code != 0) throw Error("git rev-list: " + printable(result.errors, 500));
    return found;
  }

  std::vector<std::pair<std::string, CommitInfo>> last_commits(const Oid& commit,
                                                               const std::string& folder) override {
    auto root = entry(commit, folder);
    if (!root || root->kind != TreeEntry::Kind::folder) return {};
    std::vector<std::string> names;
    RawTree tree = objects_->tree(from_hex(root->oid));
    for (auto& child : tree.entries) names.emplace_back(child.name);
    std::map<Oid, CommitInfo> commits;
    std::vector<std::pair<std::string, CommitInfo>> result;
    for (auto& [name, oid] : index_.last_commits(repo_, *objects_, commit, folder, names)) {
      auto [info, fresh] = commits.try_emplace(oid);
      if (fresh) info->second = objects_->commit(from_hex(oid)).value();
      result.emplace_back(name, info->second);
    }
    return result;
  }

 private:
  TreeEntry make_entry(const std::string& path, const RawEntry& raw) {
    TreeEntry entry{raw.kind(), path, to_hex(raw.oid), 0};
    bool blob = entry.kind == TreeEntry::Kind::file || entry.kind == TreeEntry::Kind::link;
    if (blob) entry.size = objects_->size(raw.oid);
    return entry;
  }

  // False: `visit` had enough. `after`: the parts of the path behind which to start.
  bool list_level(const git_oid& oid, const std::string& folder, bool recursive,
                  const std::vector<std::string>& after,
                  const std::function<bool(const TreeEntry&)>& visit, int depth) {
    if (depth > kMaxDepth) throw FormatError("tree: folders are nested too deep");
    RawTree tree = objects_->tree(oid);
    const RawEntry* start = after.empty() ? nullptr : tree.find(after[0]);
    // Where the entry is gone meanwhile, its place in git's order counts.
    bool is_folder = start ? start->is_tree() : after.size() > 1;
    std::string key = after.empty() ? "" : after[0] + (is_folder ? "/" : "");
    for (auto& raw : tree.entries) {
      std::string path = join_path(folder, raw.name);
      bool inside = &raw == start && after.size() > 1;
      if (!after.empty() && &raw != start && sort_key(raw) <= key) continue;
      if (&raw != start && !visit(make_entry(path, raw))) return false;
      if (!recursive || !raw.is_tree()) continue;
      std::vector<std::string> rest;
      if (inside) rest.assign(after.begin() + 1, after.end());
      if (!list_level(raw.oid, path, recursive, rest, visit, depth + 1)) return false;
    }
    return true;
  }

  static std::string sort_key(const RawEntry& raw) {
    return std::string(raw.name) + (raw.is_tree() ? "/" : "");
  }

  void walk(const std::vector<Oid>& tips, const std::vector<Oid>& hidden,
            const std::function<bool(const git_oid&)>& visit) {
    git_revwalk* raw;
    git_check(git_revwalk_new(&raw, objects_->repository()), "history");
    GitPointer<git_revwalk, git_revwalk_free> walk(raw);
    for (auto& tip : tips) {
      git_oid oid = from_hex(tip);
      git_check(git_revwalk_push(raw, &oid), "commit " + tip);
    }
    for (auto& tip : hidden) {
      git_oid oid = from_hex(tip);
      git_check(git_revwalk_hide(raw, &oid), "commit " + tip);
    }
    git_oid oid;
    int code;
    while ((code = git_revwalk_next(&oid, raw)) == 0)
      if (!visit(oid)) return;
    if (code != GIT_ITEROVER) git_check(code, "history");
  }

  void take_pointer(const std::string& hex, std::vector<LfsPointer>& found) {
    git_oid oid = from_hex(hex);
    if (objects_->type(oid) != GIT_OBJECT_BLOB || objects_->size(oid) > kMaxPointer) return;
    auto pointer = LfsPointer::parse(objects_->read(oid, GIT_OBJECT_BLOB, kMaxPointer));
    if (pointer) found.push_back(std::move(*pointer));
  }

  static std::string tree_name(const Oid& commit) {
    return commit == kNoOid ? kEmptyTree : to_hex(from_hex(commit));
  }
  git_oid tree_or_none(const Oid& commit) {
    return commit == kNoOid ? git_oid{} : objects_->tree_of(from_hex(commit));
  }

  int64_t repo_;
  std::shared_ptr<CacheFolder> folder_;
  PathIndex& index_;
  std::shared_ptr<Objects> objects_;
  std::vector<std::pair<std::string, std::string>> environment_;
};

// "size 12345" to 12345; false: no such line, or no number as git-lfs writes it.
bool take_line(std::string_view& text, std::string_view start, std::string_view& value) {
  if (text.substr(0, start.size()) != start) return false;
  size_t end = std::min(text.find('\n'), text.size());
  value = text.substr(start.size(), end - start.size());
  text.remove_prefix(std::min(end + 1, text.size()));
  return true;
}

}  // namespace

std::unique_ptr<GitView> make_view(int64_t repo, const Snapshot& snapshot, PathIndex& index,
                                   const fs::path& quarantine) {
  return std::make_unique<View>(repo, snapshot, index, quarantine);
}

std::string LfsPointer::text() const {
  return "version https://git-lfs.github.com/spec/v1\noid sha256:" + sha256 + "\nsize " +
         std::to_string(size) + "\n";
}

std::optional<LfsPointer> LfsPointer::parse(std::string_view bytes) {
  std::string_view version, oid, size;
  if (bytes.size() > kMaxPointer || !take_line(bytes, "version ", version) ||
      !take_line(bytes, "oid sha256:", oid) || !take_line(bytes, "size ", size) || !bytes.empty())
    return std::nullopt;
  bool digits = !size.empty() && size.size() <= 18 &&
                size.find_first_not_of("0123456789") == size.npos &&
                (size == "0" || size[0] != '0');
  if (version != "https://git-lfs.github.com/spec/v1" || oid.size() != 64 ||
      oid.find_first_not_of("0123456789abcdef") != oid.npos || !digits)
    return std::nullopt;
  return LfsPointer{std::string(oid), std::stoull(std::string(size))};
}

}  // namespace pretrained::server
