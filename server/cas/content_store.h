#pragma once
// Large content, stored once: chunks packed into xorbs, files as lists of chunk ranges (Xet), and
// the SHA-256 by which git-lfs and commits name them. LFS and plain HTTP uploads are chunked here
// too, so every large file has a Xet hash. Nothing is believed: chunks, xorbs, ranges, files and
// SHA-256 are all recomputed before they are registered. May be called from any thread.
//
// Rights: a repository may reference a xorb only if it uploaded it or was told of it by a dedup
// answer, or those chunks of it that lie in a file which it holds or which the caller may read.
// Leases: what an upload or a dedup answer promised stays for at least `lease` whatever the garbage
// collector thinks.
//
// What is compared when: everything while it arrives; every chunk again when it is first read from
// a xorb that was not in use lately, so that a bad disk gives DamagedContent and not wrong bytes;
// from then on uncompressed chunks go to the socket unread. fsck reads everything.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "pretrained/xet/hash.h"
#include "server/storage/blobs.h"
#include "server/storage/database.h"

namespace pretrained::server {

// Stored bytes that are missing or are no longer what they were: the disk's fault, not the
// caller's.
class DamagedContent : public IoError {
 public:
  using IoError::IoError;
};

struct ContentObject {
  std::string sha256;  // 64 hex digits
  uint64_t size = 0;
  xet::Hash xet_hash;  // canonical
};

// A run of chunks of one xorb.
struct Term {
  xet::Hash xorb;
  uint32_t first_chunk = 0, end_chunk = 0;
  uint64_t raw_length = 0;
};

// How to get (a range of) a file, for the reconstruction answers.
struct Reconstruction {
  uint64_t file_size = 0, offset_into_first_range = 0;
  struct Part {
    Term term;
    // The records of these chunks in the xorb's bytes: first, last (inclusive).
    uint64_t first_byte = 0, last_byte = 0;
  };
  std::vector<Part> parts;
};

class ContentStore {
 public:
  ContentStore(Database& database, BlobStore& blobs,
               std::chrono::seconds lease = std::chrono::hours(24));
  ~ContentStore();

  // Reads a xorb of at most 68 MiB, verifies it while it is written, stores it once. FormatError
  // when it is not `hash`. True: it was new. Clients remember for three weeks what they uploaded,
  // and never send it again; so `user` may build files of it that long, and it is kept, whatever
  // became of the repository.
  bool put_xorb(int64_t repo, const xet::Hash& hash,
                const std::function<size_t(char*, size_t)>& read, std::optional<int64_t> user = {});
  // Registers the files of a shard: every xorb known and permitted to the repository, ranges and
  // file hash and SHA-256 recomputed (computed where the shard does not say it). `progress(verified
  // bytes, total)` may throw to stop. True: something was new. FormatError: refused, all of it.
  // Permitted too is what clients remember: the xorbs that `user` uploaded, and chunks that the
  // files of a `readable` repository have.
  bool put_shard(int64_t repo, std::string_view shard,
                 const std::function<void(uint64_t, uint64_t)>& progress = {},
                 const std::function<bool(int64_t repo)>& readable = {},
                 std::optional<int64_t> user = {});
  // A dedup answer (a shard with footer and a key of its own) for one chunk: a xorb of which a file
  // in a repository that the caller may read (`readable`) has the chunk. The repository then may
  // reference it until the key expires. Chunks that no such file has are hidden in the answer.
  std::optional<std::string> query_chunk(int64_t repo, const xet::Hash& chunk,
                                         const std::function<bool(int64_t repo)>& readable);

  // A file through LFS or plain HTTP: chunked, deduplicated, hashed in one pass, durable.
  // FormatError when size or SHA-256 are not as announced. `read` is called from this thread.
  ContentObject put_object(int64_t repo, const std::string& sha256, uint64_t size,
                           const std::function<size_t(char*, size_t)>& read);
  // Parts of a multipart upload, 1 … n, in any order and from several connections; complete() joins
  // them. A restart forgets it: NotFoundError, and the client starts anew. A refused part or a
  // wrong whole is a FormatError.
  std::string start_multipart(int64_t repo, const std::string& sha256, uint64_t size,
                              uint64_t part_size);
  std::string put_part(const std::string& upload, uint32_t number,
                       const std::function<size_t(char*, size_t)>& read);  // returns its ETag
  ContentObject complete_multipart(const std::string& upload);

  // An object that this repository holds or has uploaded.
  std::optional<ContentObject> object(int64_t repo, const std::string& sha256);
  std::vector<std::optional<ContentObject>> objects(int64_t repo,
                                                    const std::vector<std::string>& sha256);
  // Renews the lease of an object for a repository that already has it; false where it has not, or
  // where it is damaged and must come again.
  bool touch(int64_t repo, const std::string& sha256);
  // Gives `to` what `from` holds (copies between repositories).
  bool share(int64_t from, int64_t to, const std::string& sha256);
  // Inside the transaction that publishes a commit: these objects are now the repository's. Throws
  // NotFoundError naming the first that it does not have.
  void commit_objects(Transaction& transaction, int64_t repo,
                      const std::vector<std::string>& sha256);

  // Sizes of those of these objects that the repository has and has not committed, each once.
  uint64_t uncommitted_bytes(Transaction& transaction, int64_t repo,
                             const std::vector<std::string>& sha256);
  // What it committed, in the order of SHA-256, behind `after` ("": from the start).
  struct Committed {
    std::string sha256;
    uint64_t size = 0;
    int64_t pushed_at = 0;
  };
  std::vector<Committed> committed(int64_t repo, const std::string& after, size_t limit);
  // The repository no longer has these objects, committed or not.
  void drop_objects(Transaction& transaction, int64_t repo, const std::set<std::string>& sha256);

  // By canonical or alias hash; only files that `repo` holds: nothing where it holds none. Bytes
  // [first, last]; no parts where `first` is not inside the file. A link for a part must be good
  // for its bytes alone, because the rest of the xorb may be somebody else's.
  std::optional<Reconstruction> reconstruct(int64_t repo, const xet::Hash& file, uint64_t first,
                                            uint64_t last);
  // A xorb's bytes for ranged, signed fetches.
  struct XorbFile {
    FileDescriptor file;
    uint64_t size = 0;
  };
  std::optional<XorbFile> open_xorb(const xet::Hash& hash);
  // Bytes [first, last] of an object, uncompressed chunks straight from their files.
  struct Output {
    std::function<void(std::string_view)> write;
    std::function<void(int fd, uint64_t offset, uint64_t length)> send_file;
  };
  void read(const ContentObject& object, uint64_t first, uint64_t last, const Output& output);
  std::string read_bytes(const ContentObject& object, uint64_t first, uint64_t length);

  // Garbage: objects that no repository holds and no lease protects, files of no object, xorbs of
  // no file that no client remembers (`remembered`: those too); blobs of dead processes that no row
  // names. Beside running uploads, in any process.
  struct Freed {
    uint64_t objects = 0, files = 0, xorbs = 0, bytes = 0;
  };
  Freed collect(bool remembered = false);
  // Drops what a repository no longer names, given what its history does. What is under lease stays
  // (a commit renews the lease), so commits may go on meanwhile.
  void keep_only(int64_t repo, const std::vector<std::string>& sha256);
  // Problems found: rows, sizes and hashes compared with each other and, with `read_bytes`, with
  // every stored byte. Damaged xorbs are marked: from then on uploads store their chunks again, and
  // so repair the files of whoever uploads. `progress(bytes, total)` may throw to stop.
  std::vector<std::string> fsck(bool read_bytes,
                                const std::function<void(uint64_t, uint64_t)>& progress);
  uint64_t used_bytes(int64_t repo);  // sizes of the objects that it holds, under lease too

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pretrained::server
