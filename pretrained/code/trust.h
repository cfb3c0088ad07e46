#pragma once
// Which shared code may be compiled and run here. Trust is bound to bytes: it is given to the
// SHA-256 of a repository's code (code::digest), so the same bytes under another commit ask
// nothing, and other bytes are refused until somebody has looked at what changed.
//
//   from_pretrained(name)                                code that was trusted before runs
//   from_pretrained(name, {.trust_remote_code = true})   so does code that is met for the first
//                                                        time; it is recorded
//   from_pretrained(name, {.trust_remote_code = false})  none runs, whatever was recorded
//   from_pretrained(name, {.trust_remote_code = TrustPolicy{.ask = …}})
//
// Nothing that a repository contains can grant trust, and no answer is ever waited for: the library
// prompts nobody.

#include <concepts>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pretrained/code/closure.h"
#include "pretrained/code/hints.h"

namespace pretrained {

// What a person needs to know before code runs.
struct PRETRAINED_API CodeReview {
  std::string repository;    // "org/name", or a folder's path
  std::string commit;        // 40 hex digits; "" of a folder
  bool pinned = false;       // the caller named this commit, not a branch or tag
  std::string author, date;  // of the commit, as the hub tells; "" where that is not known
  code::Sources files;       // what would be compiled, byte for byte
  std::string digest;        // of files
  int api_level = 0;
  std::vector<code::Hint> hints;
  std::string diff;  // from what was trusted last of this repository; "" where nothing was
  std::string trusted_before;  // when that was, and of which commit

  std::string name() const;  // "org/name@commit", or the folder
};

struct TrustPolicy {
  // Called with code that is not trusted yet; true trusts and records it. Empty: it is refused.
  std::function<bool(const CodeReview&)> ask;
  // Code that no commit was named for is refused, also where it was trusted before.
  bool require_commit = false;
  // Patterns with '*' for repositories ("org/*") and folders; code from elsewhere is refused, also
  // where it was trusted before. Empty: any.
  std::vector<std::string> repositories;
  std::filesystem::path trust_file;  // empty: default_trust_file()
  // false: nothing is read from the trust file or written to it; ask decides, each time.
  bool record = true;
};

// FromPretrained::trust_remote_code.
class PRETRAINED_API TrustRemoteCode {
 public:
  TrustRemoteCode() = default;
  template <std::same_as<bool> B>  // and nothing that merely converts to one
  TrustRemoteCode(B trust) : always_(trust) {}
  TrustRemoteCode(TrustPolicy policy) : policy_(std::move(policy)) {}

  // Returns where the code may run, after recording what has to be recorded; `notice` gets one line
  // when code is trusted that was not before. Throws UntrustedCode; IoError, FormatError for a
  // trust file that cannot be used. `complete` fills in author and date, where they are needed.
  void require(CodeReview review, const std::function<void(const std::string&)>& notice,
               const std::function<void(CodeReview&)>& complete = {}) const;
  // Throws UntrustedCode where no code of that repository could run, whatever it says: before any
  // of it is fetched.
  void require_possible(const std::string& repository, const std::string& commit) const;

 private:
  std::optional<bool> always_;
  TrustPolicy policy_;
};

namespace code {

struct TrustEntry {
  std::string repository, commit, sha256;
  int api_level = 0;
  std::string when;  // "2026-01-31T12:00:00Z"
  std::string how;   // "true", "callback", "command"
  bool operator==(const TrustEntry&) const = default;
};

// The file of trusted code, oldest entry first:
//   {"trusted": [{"api_level": …, "commit": …, "how": …, "repository": …, "sha256": …, "when": …},
//   …], "version": 1}
// The code itself lies beside it, in trust.json.code/<sha256>, so that changes can be shown. Any
// number of threads and processes may use one. It must be a file of this user that nobody else can
// write, in a folder of which the same is true: else IoError; FormatError where it is damaged.
class PRETRAINED_API TrustFile {
 public:
  explicit TrustFile(std::filesystem::path path = {});  // empty: default_trust_file()

  const std::filesystem::path& path() const { return path_; }
  std::vector<TrustEntry> entries() const;
  // Replaces an entry of the same repository and bytes. With `first` only where no code of the
  // repository is trusted yet, else false and nothing changes.
  bool add(const CodeReview& review, const std::string& how, bool first = false) const;
  // All entries of a repository or folder, or of its one commit; what was removed.
  std::vector<TrustEntry> revoke(const std::string& repository,
                                 const std::string& commit = "") const;
  // The code of an entry; nothing where it is not there or damaged.
  std::optional<Sources> sources(const std::string& sha256) const;

 private:
  std::filesystem::path prepare() const;
  void write(const std::vector<TrustEntry>& entries) const;
  std::filesystem::path code_file(const std::string& sha256) const;
  std::filesystem::path path_;
};

// $PRETRAINED_TRUST_FILE, else $XDG_CONFIG_HOME/pretrained/trust.json, else
// ~/.config/pretrained/trust.json. Empty where none of the variables is set: then nothing is
// trusted, and adding is an IoError.
PRETRAINED_API std::filesystem::path default_trust_file();

// Throws FormatError; `source` is for messages.
PRETRAINED_API std::vector<TrustEntry> parse_trust(std::string_view text,
                                                   const std::string& source);
// Paths and bytes with their lengths, as code::digest hashes them: the SHA-256 is the digest.
PRETRAINED_API std::string frame_sources(const Sources& sources);
// Nothing where the bytes are no such frames.
PRETRAINED_API std::optional<Sources> parse_frames(std::string_view bytes);

// With digest and hints. `repository` is a name or a folder; `commit` "" for a folder.
PRETRAINED_API CodeReview review_code(const std::string& repository, const std::string& commit,
                                      Sources sources, int api_level);
// Fills in what differs from the code of the repository that was trusted last.
PRETRAINED_API void compare_with(const TrustFile& trusted, CodeReview& review);

}  // namespace code
}  // namespace pretrained
