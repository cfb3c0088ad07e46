// The server's side of `git push`:
// https://git-scm.com/docs/gitprotocol-pack#_pushing_data_to_a_server

#include <algorithm>
#include <set>

#include "server/git/child.h"
#include "server/git/pack_scanner.h"
#include "server/git/pack_writer.h"
#include "server/git/pkt_line.h"
#include "server/git/rules.h"
#include "server/git/state.h"

namespace pretrained::server {
namespace fs = std::filesystem;
namespace {

constexpr size_t kMaxCommands = 10'000;
constexpr uint64_t kMaxObject = 128 << 20;  // of what git has to hold in memory
constexpr uint64_t kMaxDiscard = 16 << 20;
constexpr auto kSilence = std::chrono::minutes(30);  // of git while it resolves deltas
constexpr const char* kOthersRefused = "another reference of this push was refused";

struct Command {
  RefUpdate update;
  std::string refusal;  // "": none so far
};

struct PushRequest {
  std::vector<Command> commands;
  std::set<std::string> capabilities;
  bool asks(const std::string& name) const { return capabilities.count(name) > 0; }
  bool has_pack() const {
    return std::any_of(commands.begin(), commands.end(),
                       [](const Command& command) { return command.update.to != kNoOid; });
  }
  bool refused() const {
    return std::any_of(commands.begin(), commands.end(),
                       [](const Command& command) { return !command.refusal.empty(); });
  }
};

std::set<std::string> split_words(std::string_view text) {
  std::set<std::string> words;
  while (!text.empty()) {
    size_t end = std::min(text.find(' '), text.size());
    if (end > 0) words.emplace(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return words;
}

PushRequest read_request(PacketReader& reader) {
  PushRequest request;
  while (auto line = reader.next()) {
    std::string_view text = *line;
    if (size_t end = text.find('\0'); end != text.npos) {
      std::string_view words = text.substr(end + 1);
      if (words.ends_with('\n')) words.remove_suffix(1);
      if (request.commands.empty()) request.capabilities = split_words(words);
      text = text.substr(0, end);
    }
    if (text.ends_with('\n')) text.remove_suffix(1);
    if (text.substr(0, 8) == "shallow ")
      throw FormatError("pushing from a shallow clone is not supported: run git fetch --unshallow");
    Command command;
    bool good = text.size() > 82 && text[40] == ' ' && text[81] == ' ';
    if (good)
      command.update = {std::string(text.substr(82)), Oid(text.substr(0, 40)),
                        Oid(text.substr(41, 40))};
    if (!good || !is_oid(command.update.from) || !is_oid(command.update.to))
      throw FormatError("git request: expected 'old-id new-id name', got '" +
                        printable(std::string(text)) + "'");
    request.commands.push_back(std::move(command));
    if (request.commands.size() > kMaxCommands)
      throw FormatError("git request: more than " + std::to_string(kMaxCommands) + " references");
  }
  return request;
}

// Report-status, and words for the user on the second channel.
std::string answer(const PushRequest& request, const std::string& unpack_error,
                   const std::string& words) {
  std::string report = packet("unpack " + (unpack_error.empty() ? "ok" : unpack_error) + "\n");
  for (auto& command : request.commands)
    report += command.refusal.empty()
                  ? packet("ok " + command.update.name + "\n")
                  : packet("ng " + command.update.name + " " + command.refusal + "\n");
  report += kFlush;
  if (!request.asks("report-status")) report.clear();
  if (!request.asks("side-band-64k")) return report;
  std::string result;
  if (!words.empty()) result += packet("\2" + words + "\n");
  for (size_t begin = 0; begin < report.size(); begin += kMaxPacket - 5)
    result += packet("\1" + report.substr(begin, kMaxPacket - 5));
  return result + kFlush;
}

std::string name_refusal(const RefUpdate& update, bool checked) {
  auto starts = [&](const char* start) { return update.name.rfind(start, 0) == 0; };
  if (!is_ref_name(update.name)) return "not a name that git accepts";
  if (!starts("refs/heads/") && !starts("refs/tags/") && !(starts("refs/pr/") && checked))
    return "only branches and tags can be pushed";
  if (update.name == "refs/heads/main" && update.to == kNoOid) return "main cannot be deleted";
  return "";
}

// git's own words: the broken rule of an object before the summary.
std::string first_error(const std::string& errors) {
  for (std::string_view start : {"error: object ", "error: ", "fatal: "}) {
    size_t begin = errors.rfind(start, 0) == 0 ? 0 : errors.find("\n" + std::string(start));
    if (begin == errors.npos) continue;
    if (errors[begin] == '\n') ++begin;
    begin += start.find(' ') + 1;
    return printable(errors.substr(begin, errors.find('\n', begin) - begin), 400);
  }
  return "git index-pack failed";
}

class Push {
 public:
  Push(GitParts& state, int64_t repo)
      : state_(state), repo_(repo), snapshot_(state.caches.current(repo)), scratch_(state.blobs) {
    fs::create_directories(scratch_.path / "objects/pack");
  }

  // Lets git index and check what comes; FormatError in git's words.
  void unpack(PacketReader& reader) {
    const PushLimits& limits = state_.limits;
    PackScanner scanner(limits.objects, limits.inflated_bytes,
                        std::max(kMaxObject, limits.raw_blob_bytes));
    uint64_t received = 0;
    GitCall call{{"index-pack", "--stdin", "--fix-thin", "--strict", "--threads=1",
                  "--max-input-size=" + std::to_string(limits.pack_bytes)},
                 snapshot_.folder->path(),
                 quarantine(scratch_.path, snapshot_.folder->path())};
    call.silence = kSilence;
    call.heavy = true;
    call.input = [&](char* data, size_t size) {
      size_t got = reader.read(data, size);
      received += got;
      if (received > limits.pack_bytes)
        throw FormatError("pack: larger than " + std::to_string(limits.pack_bytes) +
                          " bytes: push in smaller steps");
      scanner.feed({data, got});
      return got;
    };
    std::string output;
    call.output = [&](std::string_view bytes) {
      if (output.size() < 4096) output.append(bytes);
    };
    GitResult result = run_git(call);
    if (result.timed_out) throw FormatError("checking the pack took too long");
    if (result.exit_code != 0) throw FormatError(first_error(result.errors));
    size_t at = output.find("pack\t");
    if (at == output.npos || !is_oid(output.substr(at + 5, 40)))
      throw Error("git index-pack: unexpected answer '" + printable(output) + "'");
    if (scanner.objects() > 0) checksum_ = output.substr(at + 5, 40);
  }

  // Everything that the new tips need is here, and no file is too large to be outside LFS.
  void check_objects(PushRequest& request) {
    objects_ = std::make_unique<Objects>(
        std::vector<fs::path>{snapshot_.folder->path() / "objects", scratch_.path / "objects"});
    std::string tips;
    for (auto& command : request.commands) {
      if (command.update.to == kNoOid) continue;
      command.refusal = target_refusal(command.update);
      tips += command.update.to + "\n";
    }
    if (request.refused()) return;
    check_blob_sizes(tips);
    GitCall call{{"rev-list", "--objects", "--stdin", "--not", "--all", "--quiet"},
                 snapshot_.folder->path(),
                 quarantine(scratch_.path, snapshot_.folder->path()),
                 read_from(tips)};
    call.silence = kSilence;
    GitResult result = run_git(call);
    if (result.exit_code != 0)
      throw FormatError("the history is not complete: " + first_error(result.errors));
  }

  void ask(PushRequest& request, const GitStore::PushCheck& check) {
    if (!check.update) return;
    auto view = make_view(repo_, snapshot_, state_.index, scratch_.path);
    for (auto& command : request.commands)
      command.refusal = printable(check.update(*view, command.update), 400);
  }

  void publish(PushRequest& request, const GitStore::PushCheck& check) {
    std::vector<GitStore::Stored> packs;
    if (!checksum_.empty()) {
      packs.push_back(store_pack(state_.blobs, scratch_.path / "objects/pack", checksum_));
      packs[0].generation = snapshot_.generation;
    }
    std::vector<RefUpdate> updates;
    for (auto& command : request.commands) updates.push_back(command.update);
    state_.publish(repo_, packs, updates, snapshot_.generation, [&](Transaction& t) {
      if (check.also) check.also(t, updates);
    });
  }

 private:
  std::string target_refusal(const RefUpdate& update) {
    git_oid oid = from_hex(update.to);
    bool tag = update.name.rfind("refs/tags/", 0) == 0;
    git_object_t type = objects_->type(oid);
    if (type == GIT_OBJECT_INVALID) return update.to + " was not sent";
    if (tag ? !objects_->peel(oid) : type != GIT_OBJECT_COMMIT)
      return update.to + " is a " + git_object_type2string(type) +
             (tag ? ", which leads to no commit" : ", expected a commit");
    return "";
  }

  void check_blob_sizes(const std::string& tips) {
    if (checksum_.empty()) return;
    auto known = snapshot_.folder->borrow();
    std::set<Oid> large;
    git_odb* raw;
    git_check(git_odb_new(&raw), "pack");
    GitPointer<git_odb, git_odb_free> odb(raw);
    git_odb_backend* backend;
    fs::path index = scratch_.path / "objects/pack" / ("pack-" + checksum_ + ".idx");
    git_check(git_odb_backend_one_pack(&backend, index.c_str()), "pack");
    git_check(git_odb_add_backend(raw, backend, 1), "pack");
    std::vector<git_oid> all;  // nothing may be thrown through libgit2
    auto collect = [](const git_oid* oid, void* list) {
      static_cast<std::vector<git_oid>*>(list)->push_back(*oid);
      return 0;
    };
    git_check(git_odb_foreach(raw, collect, &all), "pack");
    for (auto& oid : all)
      if (objects_->size(oid) > state_.limits.raw_blob_bytes &&
          objects_->type(oid) == GIT_OBJECT_BLOB && !known->has(oid))
        large.insert(to_hex(oid));
    if (!large.empty())
      throw FormatError("file " + names_of(large, tips) + ": larger than " +
                        std::to_string(state_.limits.raw_blob_bytes) +
                        " bytes: large files must go through git-lfs");
  }

  // "'weights.bin'" as the new history names them; the id where it does not.
  std::string names_of(const std::set<Oid>& blobs, const std::string& tips) {
    std::string names, line;
    GitCall call{{"rev-list", "--objects", "--stdin", "--not", "--all"},
                 snapshot_.folder->path(),
                 quarantine(scratch_.path, snapshot_.folder->path()),
                 read_from(tips)};
    call.output = [&](std::string_view bytes) {
      for (char c : bytes) {
        if (c != '\n') {
          if (line.size() < 400) line += c;
          continue;
        }
        if (line.size() > 41 && names.size() < 300 && blobs.count(line.substr(0, 40)))
          names += (names.empty() ? "'" : ", '") + line.substr(41) + "'";
        line.clear();
      }
    };
    run_git(call);
    return names.empty() ? *blobs.begin() : names;
  }

  GitParts& state_;
  int64_t repo_;
  Snapshot snapshot_;
  ScratchFolder scratch_;
  std::unique_ptr<Objects> objects_;
  std::string checksum_;
};

void refuse_others(PushRequest& request) {
  for (auto& command : request.commands)
    if (command.refusal.empty()) command.refusal = kOthersRefused;
}

// Marks the reference that the conflict names; the others follow it.
void refuse_conflict(PushRequest& request, const std::string& message) {
  for (auto& command : request.commands)
    if (message.find("'" + command.update.name + "'") != message.npos)
      command.refusal = "fetch first: " + printable(message, 300);
  if (!request.refused()) request.commands[0].refusal = printable(message, 300);
  refuse_others(request);
}

}  // namespace

std::string GitStore::receive_pack(int64_t repo, const std::function<size_t(char*, size_t)>& read,
                                   const PushCheck& check) {
  PacketReader reader(read);
  PushRequest request = read_request(reader);
  if (request.commands.empty()) return "";  // a client that tries whether it may
  std::set<std::string> names;
  for (auto& command : request.commands) {
    command.refusal = name_refusal(command.update, bool(check.update));
    if (!names.insert(command.update.name).second) command.refusal = "named twice";
  }
  try {
    Push push(*state_, repo);
    if (request.refused()) {
      reader.discard(kMaxDiscard);
    } else {
      if (request.has_pack()) push.unpack(reader);
      push.check_objects(request);
    }
    if (!request.refused()) push.ask(request, check);
    if (!request.refused()) push.publish(request, check);
  } catch (const FormatError& error) {
    reader.discard(kMaxDiscard);
    for (auto& command : request.commands) command.refusal = "unpacker error";
    std::string reason = printable(error.what(), 500);
    return answer(request, reason, reason);
  } catch (const IoError&) {
    throw;
  } catch (const Busy&) {
    throw;
  } catch (const Error& error) {  // a RefConflict, or a refusal by `also`
    refuse_conflict(request, error.what());
  }
  if (request.refused()) refuse_others(request);
  return answer(request, "", "");
}

}  // namespace pretrained::server
