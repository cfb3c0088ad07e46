#pragma once
// The objects of one repository through libgit2: ids, types, bytes, and trees as git writes them.
// Ids are computed with collision detection and compared on every read.

#include <git2.h>

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/git/git_store.h"

namespace pretrained::server {

template <auto free>
struct GitFree {
  template <class T>
  void operator()(T* pointer) const {
    free(pointer);
  }
};
template <class T, auto free>
using GitPointer = std::unique_ptr<T, GitFree<free>>;

// Throws what libgit2 says where `code` is an error: NotFoundError for what is not there.
void git_check(int code, const std::string& what);

std::string to_hex(const git_oid& oid);
git_oid from_hex(const Oid& text);  // ArgumentError: not 40 lower-case hex digits
bool is_oid(std::string_view text);
git_oid hash_object(git_object_t type, std::string_view bytes);

// One entry of a tree object; `name` points into the tree's bytes.
struct RawEntry {
  uint32_t mode;
  std::string_view name;
  git_oid oid;
  bool is_tree() const { return mode == 040000; }
  TreeEntry::Kind kind() const;
};

// A tree object with its entries, in git's order.
class RawTree {
 public:
  RawTree() = default;                     // the empty tree
  explicit RawTree(git_odb_object* tree);  // takes it; FormatError where the bytes are no tree
  const RawEntry* find(std::string_view name) const;
  std::vector<RawEntry> entries;

 private:
  GitPointer<git_odb_object, git_odb_object_free> object_;
};

// Not thread-safe, as libgit2's handles are not.
class Objects {
 public:
  // `folders`: "…/objects", each with packs; `loose`: also single objects of that folder.
  explicit Objects(const std::vector<std::filesystem::path>& folders,
                   const std::filesystem::path& loose = {});

  git_repository* repository() { return repository_.get(); }
  bool has(const git_oid& oid);           // does not look at the disk again
  git_object_t type(const git_oid& oid);  // GIT_OBJECT_INVALID: not there
  uint64_t size(const git_oid& oid);
  // NotFoundError; FormatError where it is of another type or larger than `limit`.
  std::string read(const git_oid& oid, git_object_t type, uint64_t limit);
  RawTree tree(const git_oid& oid);
  std::optional<CommitInfo> commit(const git_oid& oid);
  git_oid tree_of(const git_oid& commit);
  // The commit that a commit or an annotated tag leads to; nothing where it leads to none.
  std::optional<git_oid> peel(const git_oid& oid);

 private:
  GitPointer<git_odb, git_odb_free> odb_;
  GitPointer<git_repository, git_repository_free> repository_;
};

// What differs between two trees (a null id: the empty tree), folders before what is in them.
// `before` or `after` is nullptr where there is no such entry. `visit` returns whether to look into
// the folders of this name.
struct TreeChange {
  const std::string& folder;
  std::string_view name;
  const RawEntry *before, *after;
};
void compare_trees(Objects& objects, const git_oid& before, const git_oid& after,
                   const std::function<bool(const TreeChange&)>& visit,
                   const std::string& folder = "");

std::string join_path(const std::string& folder, std::string_view name);

}  // namespace pretrained::server
