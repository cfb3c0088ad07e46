#include <algorithm>
#include <set>

#include "server/git/child.h"
#include "server/git/pack_writer.h"
#include "server/git/rules.h"
#include "server/git/state.h"
#include "server/git/tree_editor.h"

namespace pretrained::server {
namespace fs = std::filesystem;
namespace {

constexpr size_t kMaxIndexedPaths = 10'000;  // more are indexed when somebody asks

std::string commit_text(const git_oid& tree, const std::vector<Oid>& parents,
                        const NewCommit& commit) {
  check_message(commit.title);
  check_message(commit.message);
  std::string signature = signature_line(commit.author, now_ms() / 1000);
  std::string text = "tree " + to_hex(tree) + "\n";
  for (auto& parent : parents) text += "parent " + parent + "\n";
  text += "author " + signature + "\ncommitter " + signature + "\n\n" + commit.title + "\n";
  if (!commit.message.empty()) text += "\n" + commit.message + "\n";
  return text;
}

// Collects objects once each, without those that the repository has.
class ObjectList {
 public:
  explicit ObjectList(Objects& known) : known_(known) {}
  void add(const PackObject& object) {
    if (!known_.has(object.oid) && seen_.insert(to_hex(object.oid)).second)
      objects_.push_back(object);
  }
  // Blobs first, then trees, then what refers to them.
  std::vector<PackObject> take() { return std::move(objects_); }

 private:
  Objects& known_;
  std::set<Oid> seen_;
  std::vector<PackObject> objects_;
};

// A pack must hold something, even where the very same commit exists already.
GitStore::Stored write(BlobStore& blobs, ObjectList& list, git_object_t type,
                       const std::string& top, const Snapshot& snapshot) {
  git_oid oid = hash_object(type, top);
  std::vector<PackObject> objects = list.take();
  objects.push_back({oid, type, top});
  GitStore::Stored stored = write_pack(blobs, objects);
  stored.commit = to_hex(oid);
  stored.generation = snapshot.generation;
  return stored;
}

git_oid add_blob(ObjectList& list, const std::string& path, const FileChange& change) {
  std::string read = change.piece ? change.piece->read() : "";
  std::string_view bytes = change.piece ? read : change.content;
  check_git_file(path, bytes);
  git_oid oid = hash_object(GIT_OBJECT_BLOB, bytes);
  list.add({oid, GIT_OBJECT_BLOB, change.content, change.piece});
  return oid;
}

void apply(TreeEditor& tree, ObjectList& list, const std::vector<FileChange>& changes) {
  for (auto& change : changes) {
    std::string path = change.path;
    if (change.kind == FileChange::Kind::remove_folder && path.ends_with('/')) path.pop_back();
    check_path(path);
    switch (change.kind) {
      case FileChange::Kind::add:
        tree.add(path, add_blob(list, path, change));
        break;
      case FileChange::Kind::remove_file:
        tree.remove_file(path);
        break;
      case FileChange::Kind::remove_folder:
        tree.remove_folder(path);
        break;
    }
  }
}

struct MergedTree {
  Oid tree;
  std::vector<std::string> conflicts;
};

// New objects are written to `scratch`/objects.
MergedTree merge_trees(const Snapshot& snapshot, const fs::path& scratch, const Oid& ours,
                       const Oid& theirs) {
  fs::create_directories(scratch / "objects");
  GitCall call{{"merge-tree", "--write-tree", "--name-only", "--no-messages", "-z",
                to_hex(from_hex(ours)), to_hex(from_hex(theirs))},
               snapshot.folder->path(),
               quarantine(scratch, snapshot.folder->path())};
  call.processor = std::chrono::seconds(60);
  call.silence = std::chrono::seconds(90);
  std::string answer;
  call.output = [&](std::string_view bytes) {
    if (answer.size() < (16 << 20)) answer.append(bytes);
  };
  GitResult result = run_git(call);
  if (result.errors.find("unrelated histories") != std::string::npos)
    throw FormatError("merge of " + ours + " and " + theirs + ": their histories are unrelated");
  if (result.exit_code > 1 || result.timed_out)
    throw Error("git merge-tree: " + printable(result.errors, 500));
  MergedTree merged;
  for (size_t begin = 0, end; (end = answer.find('\0', begin)) != answer.npos; begin = end + 1) {
    std::string part = answer.substr(begin, end - begin);
    if (merged.tree.empty())
      merged.tree = part;
    else if (!part.empty())
      merged.conflicts.push_back(part);
  }
  std::sort(merged.conflicts.begin(), merged.conflicts.end());
  merged.conflicts.erase(std::unique(merged.conflicts.begin(), merged.conflicts.end()),
                         merged.conflicts.end());
  return merged;
}

// The ids of the single objects in "objects/ab/cdef…".
std::vector<git_oid> loose_objects(const fs::path& folder) {
  std::vector<git_oid> found;
  for (auto& item : fs::recursive_directory_iterator(folder)) {
    std::string name =
        item.path().parent_path().filename().string() + item.path().filename().string();
    if (item.is_regular_file() && is_oid(name)) found.push_back(from_hex(name));
  }
  return found;
}

}  // namespace

std::optional<GitStore::Stored> GitStore::write_commit(int64_t repo,
                                                       const std::vector<Oid>& parents,
                                                       const NewCommit& commit) {
  return state_->with_cache(repo, [&](const Snapshot& snapshot) -> std::optional<Stored> {
    auto objects = snapshot.folder->borrow();
    std::optional<git_oid> before;
    for (auto& parent : parents) {
      git_oid tree = objects->tree_of(from_hex(parent));
      if (!before) before = tree;
    }
    TreeEditor tree(*objects, before);
    ObjectList list(*objects);
    apply(tree, list, commit.changes);
    TreeEditor::Written written = tree.write();
    if (before && git_oid_equal(&*before, &written.root)) return std::nullopt;
    for (auto& [oid, bytes] : written.trees) list.add({oid, GIT_OBJECT_TREE, bytes});
    Stored stored = write(state_->blobs, list, GIT_OBJECT_COMMIT,
                          commit_text(written.root, parents, commit), snapshot);
    if (!parents.empty()) stored.parent = parents[0];
    if (written.changed.size() <= kMaxIndexedPaths) stored.changed = std::move(written.changed);
    return stored;
  });
}

GitStore::Stored GitStore::write_squash(int64_t repo, const Oid& of, const NewCommit& commit) {
  return state_->with_cache(repo, [&](const Snapshot& snapshot) {
    auto objects = snapshot.folder->borrow();
    git_oid tree = objects->tree_of(from_hex(of));
    ObjectList none(*objects);
    return write(state_->blobs, none, GIT_OBJECT_COMMIT, commit_text(tree, {}, commit), snapshot);
  });
}

GitStore::Stored GitStore::write_tag(int64_t repo, const Oid& target, const std::string& name,
                                     const std::string& message, const Person& tagger) {
  if (!is_ref_name("refs/tags/" + name))
    throw ArgumentError("tag '" + printable(name) + "': not a name that git accepts");
  check_message(message);
  return state_->with_cache(repo, [&](const Snapshot& snapshot) {
    auto objects = snapshot.folder->borrow();
    objects->tree_of(from_hex(target));  // it is a commit
    std::string text = "object " + target + "\ntype commit\ntag " + name + "\ntagger " +
                       signature_line(tagger, now_ms() / 1000) + "\n\n" + message + "\n";
    ObjectList none(*objects);
    return write(state_->blobs, none, GIT_OBJECT_TAG, text, snapshot);
  });
}

GitStore::Stored GitStore::write_merge(int64_t repo, const Oid& ours, const Oid& theirs,
                                       const NewCommit& commit) {
  return state_->with_cache(repo, [&](const Snapshot& snapshot) {
    ScratchFolder scratch(state_->blobs);
    MergedTree merged = merge_trees(snapshot, scratch.path, ours, theirs);
    if (!merged.conflicts.empty()) {
      std::string paths;
      for (auto& path : merged.conflicts) paths += (paths.empty() ? "" : ", ") + path;
      throw FormatError("merge: in conflict: " + printable(paths, 1000));
    }
    Objects fresh({snapshot.folder->path() / "objects"}, scratch.path / "objects");
    auto known = snapshot.folder->borrow();
    ObjectList list(*known);
    std::vector<std::string> contents;  // the list only refers to them
    std::vector<git_oid> made = loose_objects(scratch.path / "objects");
    contents.reserve(made.size());
    for (auto& oid : made) {
      git_object_t type = fresh.type(oid);
      contents.push_back(fresh.read(oid, type, state_->limits.inflated_bytes));
      list.add({oid, type, contents.back()});
    }
    return write(state_->blobs, list, GIT_OBJECT_COMMIT,
                 commit_text(from_hex(merged.tree), {ours, theirs}, commit), snapshot);
  });
}

std::vector<std::string> GitStore::merge_conflicts(int64_t repo, const Oid& ours,
                                                   const Oid& theirs) {
  return state_->with_cache(repo, [&](const Snapshot& snapshot) {
    ScratchFolder scratch(state_->blobs);
    return merge_trees(snapshot, scratch.path, ours, theirs).conflicts;
  });
}

}  // namespace pretrained::server
