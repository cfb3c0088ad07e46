#pragma once
// Git repositories whose truth is the database (references, list of packs, generation) and the blob
// store (immutable packs). On disk each repository also has a bare repository under cache/git/,
// made of hard links to those packs and a packed-refs file: libgit2 reads it, `git upload-pack`
// serves it, and it may be deleted at any time. May be called from any thread and from several
// processes.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/storage/blobs.h"
#include "server/storage/database.h"

namespace pretrained::server {

using Oid = std::string;  // 40 lower-case hex digits
inline const Oid kNoOid = std::string(40, '0');

struct Ref {
  std::string name;  // "refs/heads/main", "refs/tags/v1", "refs/pr/1"
  Oid target;        // a commit, or an annotated tag
};

struct RefUpdate {
  std::string name;
  Oid from, to;  // kNoOid: absent; from == "*": whatever it is now
};

// Somebody else moved a reference in between.
class RefConflict : public Error {
 public:
  using Error::Error;
};

// Too much is going on; the same may work in a moment.
class Busy : public Error {
 public:
  using Error::Error;
};

struct Person {
  std::string name, email;
};

struct TreeEntry {
  enum class Kind { file, folder, link, submodule } kind = Kind::file;
  std::string path;  // from the root of the repository
  Oid oid;
  uint64_t size = 0;  // of files: the blob's, pointer files as they are
};

struct CommitInfo {
  Oid oid, tree;
  std::vector<Oid> parents;
  Person author;
  int64_t time_ms = 0;
  std::string title, message;  // first line; what follows the blank line
};

// An LFS pointer file (https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md): at most 1,024
// bytes, exactly version, oid and size.
struct LfsPointer {
  std::string sha256;
  uint64_t size = 0;
  std::string text() const;
  static std::optional<LfsPointer> parse(std::string_view bytes);
};

// One repository at one moment. Not thread-safe: one per request.
class GitView {
 public:
  virtual ~GitView() = default;
  virtual std::optional<CommitInfo> commit(const Oid& oid) = 0;
  // The entry at `path` ("" is the root); nothing where there is none.
  virtual std::optional<TreeEntry> entry(const Oid& commit, const std::string& path) = 0;
  // Children of a folder, in git's order; recursive: files and folders below, depth first. `after`:
  // only entries behind that path in this order (for pages). `visit` returns false to stop.
  virtual void list(const Oid& commit, const std::string& folder, bool recursive,
                    const std::string& after,
                    const std::function<bool(const TreeEntry&)>& visit) = 0;
  // FormatError where the blob is larger than `limit`.
  virtual std::string read_blob(const Oid& oid, uint64_t limit = 64 << 20) = 0;
  virtual std::optional<LfsPointer> pointer(const TreeEntry& entry) = 0;
  // Newest first, from `from`; `visit` returns false to stop.
  virtual void log(const Oid& from, const std::function<bool(const CommitInfo&)>& visit) = 0;
  virtual uint64_t count_commits(const Oid& from) = 0;
  virtual bool is_ancestor(const Oid& ancestor, const Oid& of) = 0;
  virtual std::optional<Oid> merge_base(const Oid& a, const Oid& b) = 0;
  // Unified diff of two commits' trees (kNoOid: the empty tree), cut at `limit` bytes.
  virtual std::string diff(const Oid& from, const Oid& to, uint64_t limit = 8 << 20) = 0;
  virtual std::vector<std::string> changed_paths(const Oid& from, const Oid& to) = 0;
  // Every LFS pointer in the files of history reachable from `tips` but not from `known`.
  virtual std::vector<LfsPointer> pointers(const std::vector<Oid>& tips,
                                           const std::vector<Oid>& known) = 0;
  // Last commits of the children of a folder: (name, commit), from the index in the database,
  // which is brought up to `commit` first.
  virtual std::vector<std::pair<std::string, CommitInfo>> last_commits(
      const Oid& commit, const std::string& folder) = 0;
};

// A change to make a commit of. Paths are checked: relative, no empty, "." or ".." part, no ".git"
// in any of the spellings that git's fsck refuses, no NUL, at most 4,096 bytes.
struct FileChange {
  enum class Kind { add, remove_file, remove_folder } kind = Kind::add;
  std::string path;
  std::string content;                  // add
  std::optional<FilePiece> piece = {};  // add: its bytes instead, where they are many
};

struct NewCommit {
  std::vector<FileChange> changes;  // in order, the last one wins
  std::string title, message;
  Person author;
};

struct PushLimits {
  uint64_t pack_bytes = uint64_t{2} << 30;
  uint64_t objects = 2'000'000;
  uint64_t inflated_bytes = uint64_t{16} << 30;
  uint64_t raw_blob_bytes = 10 << 20;  // larger files must be LFS
};

class GitStore {
 public:
  GitStore(Database& database, BlobStore& blobs, const std::filesystem::path& cache_folder,
           PushLimits limits = {});
  ~GitStore();

  // References, from the database.
  std::vector<Ref> refs(int64_t repo);
  // A revision to a commit: "HEAD" (main), branch, tag (peeled), "refs/…", full commit id that the
  // repository holds. Nothing where it is none of these. Abbreviated ids are not accepted.
  std::optional<Oid> resolve(int64_t repo, const std::string& revision);
  std::unique_ptr<GitView> open(int64_t repo);

  // Makes objects and stores them as a durable pack, without moving a reference: the commit it
  // returns is `parents`' first with the changes applied. Nothing where they change nothing.
  // NotFoundError for removing what is not there, FormatError for a bad path or a file where a
  // folder is (and the reverse).
  struct Stored {
    Oid commit;  // or the annotated tag
    std::string checksum, pack_blob, index_blob;
    uint64_t bytes = 0, objects = 0;  // of pack and index together
    // What it was built on: publish() refuses it (RefConflict) once objects have been dropped
    // since.
    int64_t generation = 0;
    // For the index of last commits: first parent and changed (folder, name) pairs.
    Oid parent;
    std::vector<std::pair<std::string, std::string>> changed;
  };
  std::optional<Stored> write_commit(int64_t repo, const std::vector<Oid>& parents,
                                     const NewCommit& commit);
  // A commit with that tree and no history: squashing. And an annotated tag.
  Stored write_squash(int64_t repo, const Oid& of, const NewCommit& commit);
  Stored write_tag(int64_t repo, const Oid& target, const std::string& name,
                   const std::string& message, const Person& tagger);
  // Three-way merge into a new commit; FormatError listing the paths in conflict.
  Stored write_merge(int64_t repo, const Oid& ours, const Oid& theirs, const NewCommit& commit);
  std::vector<std::string> merge_conflicts(int64_t repo, const Oid& ours, const Oid& theirs);

  // Adds the packs to the repository and moves all references or none, in one transaction with
  // `also`. RefConflict where a `from` is not what is there now, or where a new name and another
  // are like "a" and "a/b". ArgumentError for a bad name or a `to` that the repository lacks. When
  // it throws, the packs are gone: make them again.
  void publish(int64_t repo, const std::vector<Stored>& packs,
               const std::vector<RefUpdate>& updates,
               const std::function<void(Transaction&)>& also = {});

  // What `git push` sends (the body of git-receive-pack), answered as git expects (report-status,
  // in side-band-64k where asked). The pack is indexed and checked by git itself (--strict, fsck of
  // every object), its objects must be connected, and `check` may refuse each update. Accepted
  // updates move together or not at all.
  struct PushCheck {
    // Called once objects are readable (in a quarantine): a reason to refuse, or "".
    std::function<std::string(GitView& view, const RefUpdate& update)> update;
    // Within the transaction that moves the references.
    std::function<void(Transaction&, const std::vector<RefUpdate>&)> also;
  };
  std::string receive_pack(int64_t repo, const std::function<size_t(char*, size_t)>& read,
                           const PushCheck& check);
  // The answer to GET info/refs for either service.
  std::string advertise(int64_t repo, const std::string& service, const std::string& protocol);
  // git upload-pack --stateless-rpc; `write` receives the answer as it comes.
  void upload_pack(int64_t repo, const std::string& protocol,
                   const std::function<size_t(char*, size_t)>& read,
                   const std::function<void(std::string_view)>& write);

  // Rolls small packs up into larger ones and drops unreachable objects (`aggressive`: one pack).
  // Safe beside readers and writers: the list is swapped only if it is still the one that was read.
  bool repack(int64_t repo, bool aggressive);
  // The caller repacks in the background beyond a few dozen.
  int64_t pack_count(int64_t repo);
  // From now on called, quickly and from any thread, after a change that leaves a repository with
  // more than `count` packs. One listener; nothing: no longer called when this returns.
  void on_many_packs(int64_t count, std::function<void(int64_t repo)> listener);
  // Problems found by git fsck --strict and by comparing packs with their checksums; empty: sound.
  std::vector<std::string> fsck(int64_t repo);
  // Forgets the bare repository on disk; requests in flight finish.
  void drop_cache(int64_t repo);
  // The blobs of a repository's packs and of their indexes.
  std::vector<std::string> blob_names(int64_t repo);
  // Removes packs of deleted repositories, and those that no row names of processes that ended.
  // Returns the bytes freed.
  uint64_t sweep();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pretrained::server
