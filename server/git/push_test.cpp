#include <fcntl.h>
#include <gmock/gmock.h>

#include <fstream>

#include "server/git/child.h"
#include "server/git/pack_scanner.h"
#include "server/git/pkt_line.h"
#include "server/git/testing.h"

namespace pretrained::server {
namespace {
namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsEmpty;

void write_text(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

class Push : public GitTest {
 protected:
  void SetUp() override {
    commit("main", {put("README.md", "hello"), put("d/x", "1")});
    git_ok(folder.path(), {"clone", "-q", server.url, "work"});
  }
  Oid local_commit(const std::string& file, const std::string& text) {
    write_text(work / file, text);
    git_ok(work, {"add", "-A"});
    git_ok(work, {"commit", "-q", "-m", file});
    return git_ok(work, {"rev-parse", "HEAD"});
  }
  // Objects without git's own checks, then one push of `commit` by hand.
  Oid raw_object(const std::string& type, const std::string& bytes) {
    write_text(folder / "raw", bytes);
    return git_ok(work,
                  {"hash-object", "-t", type, "-w", "--literally", (folder / "raw").string()});
  }
  Oid raw_commit(const Oid& tree) {
    return raw_object("commit", "tree " + tree +
                                    "\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 "
                                    "+0000\n\nx\n");
  }
  std::string pack_of(const std::vector<Oid>& oids) {
    std::string list;
    for (auto& oid : oids) list += oid + "\n";
    GitCall call{{"pack-objects", "--stdout", "-q"}, work / ".git", {}, read_from(list)};
    return git_output(call);
  }
  std::string send(const std::string& commands, const std::string& pack) {
    return store.receive_pack(repo, read_from(commands + kFlush + pack), {});
  }
  std::string send_commit(const Oid& oid, const std::string& pack) {
    return send(
        packet(kNoOid + " " + oid + " refs/heads/evil" + std::string("\0", 1) + " report-status"),
        pack);
  }
  static std::string raw_oid(const Oid& oid) {
    std::string bytes;
    for (size_t i = 0; i < 40; i += 2) bytes += char(std::stoi(oid.substr(i, 2), nullptr, 16));
    return bytes;
  }

  GitServer server{store, repo};
  fs::path work = folder / "work";
};

TEST_F(Push, ClonesAreSoundAndPushesArrive) {
  EXPECT_EQ(read_file(work / "README.md"), "hello");
  EXPECT_EQ(git_ok(work, {"fsck", "--strict"}).find("error"), std::string::npos);
  Oid head = local_commit("new.txt", "text");
  git_ok(work, {"push", "-q", "origin", "main"});
  EXPECT_EQ(store.resolve(repo, "main"), head);
  Oid http = commit("main", {put("http.txt", "by HTTP")});
  git_ok(work, {"pull", "-q", "--ff-only"});
  EXPECT_EQ(git_ok(work, {"rev-parse", "HEAD"}), http);
  for (std::string version : {"0", "1", "2"}) {
    git_ok(folder.path(),
           {"-c", "protocol.version=" + version, "clone", "-q", server.url, "clone" + version});
    git_ok(folder / ("clone" + version), {"fsck", "--strict"});
    EXPECT_EQ(git_ok(folder / ("clone" + version), {"rev-parse", "HEAD"}), http);
  }
  git_ok(folder.path(), {"clone", "-q", "--depth=1", "--filter=blob:none", server.url, "partial"});
  EXPECT_THAT(store.fsck(repo), IsEmpty());
}

TEST_F(Push, BranchesTagsForceAndDeletion) {
  Oid head = local_commit("a", "1");
  git_ok(work, {"tag", "-a", "v1", "-m", "First"});
  git_ok(work, {"push", "-q", "origin", "HEAD:refs/heads/dev/x", "v1"});
  EXPECT_EQ(store.resolve(repo, "dev/x"), head);
  EXPECT_EQ(store.resolve(repo, "v1"), head);
  git_ok(work, {"push", "-q", "origin", "HEAD:refs/heads/same"});  // no new objects
  git_ok(work, {"commit", "-q", "--amend", "-m", "other"});
  EXPECT_NE(git(work, {"push", "-q", "origin", "HEAD:refs/heads/dev/x"}).exit_code, 0);
  git_ok(work, {"push", "-q", "-f", "origin", "HEAD:refs/heads/dev/x"});
  git_ok(work, {"push", "-q", "origin", ":refs/heads/same", ":refs/tags/v1"});
  EXPECT_FALSE(store.resolve(repo, "same"));
  EXPECT_FALSE(store.resolve(repo, "v1"));
  ProcessResult main = git(work, {"push", "origin", ":refs/heads/main"});
  EXPECT_NE(main.exit_code, 0);
  EXPECT_THAT(main.output, HasSubstr("main cannot be deleted"));
  ProcessResult other = git(work, {"push", "origin", "HEAD:refs/pr/1"});
  EXPECT_THAT(other.output, HasSubstr("only branches and tags"));
  EXPECT_THAT(git(work, {"push", "origin", "HEAD:refs/heads/dev"}).output, HasSubstr("exists"));
  EXPECT_THAT(store.fsck(repo), IsEmpty());
}

TEST_F(Push, OneStaleReferenceStopsAll) {
  Oid head = local_commit("a", "1"), old = *store.resolve(repo, "main");
  std::string capabilities = std::string("\0", 1) + " report-status side-band-64k atomic";
  std::string answer = send(packet(kNoOid + " " + head + " refs/heads/one" + capabilities) +
                                packet(head + " " + head + " refs/heads/main"),
                            pack_of({}));
  EXPECT_THAT(answer, HasSubstr("was not sent"));
  git_ok(work, {"push", "-q", "origin", "HEAD:refs/heads/keep"});
  answer = send(packet(kNoOid + " " + head + " refs/heads/one" + capabilities) +
                    packet(head + " " + head + " refs/heads/main"),
                pack_of({}));
  EXPECT_THAT(answer, HasSubstr("ng refs/heads/main fetch first"));
  EXPECT_THAT(answer, HasSubstr("ng refs/heads/one another reference"));
  EXPECT_FALSE(store.resolve(repo, "one"));
  EXPECT_EQ(store.resolve(repo, "main"), old);
}

TEST_F(Push, TheCheckMayRefuse) {
  GitStore::PushCheck check;
  check.update = [&](GitView& view, const RefUpdate& update) -> std::string {
    EXPECT_TRUE(view.commit(update.to)) << "readable before it is accepted";
    EXPECT_FALSE(view.pointers({update.to}, {}).empty());
    return "an LFS object is missing";
  };
  GitServer strict(store, repo, check);
  local_commit("x.bin", LfsPointer{std::string(64, 'a'), 3}.text());
  ProcessResult result = git(work, {"push", strict.url, "HEAD:refs/heads/dev"});
  EXPECT_NE(result.exit_code, 0);
  EXPECT_THAT(result.output, HasSubstr("an LFS object is missing"));
  EXPECT_FALSE(store.resolve(repo, "dev"));
}

TEST_F(Push, LargeFilesMustBeLfs) {
  local_commit("sub/big.bin", std::string(11 << 20, 'x'));
  ProcessResult result = git(work, {"push", "origin", "HEAD:refs/heads/dev"});
  EXPECT_NE(result.exit_code, 0);
  EXPECT_THAT(result.output, HasSubstr("sub/big.bin"));
  EXPECT_THAT(result.output, HasSubstr("git-lfs"));
  EXPECT_FALSE(store.resolve(repo, "dev"));
}

TEST_F(Push, HostileObjectsAreNamedWithTheirRule) {
  Oid blob = raw_object("blob", "x");
  std::string file = "100644 ";
  auto entry = [&](const std::string& mode, const std::string& name) {
    return mode + " " + name + std::string(1, '\0') + raw_oid(blob);
  };
  std::vector<std::pair<std::string, std::string>> trees = {
      {entry("100644", "b") + entry("100644", "a"), "treeNotSorted"},
      {entry("100644", ".git"), "hasDotgit"},
      {entry("100644", "GIT~1"), "hasDotgit"},
      {entry("100644", ".."), "hasDotdot"},
      {entry("100644", "a/b"), "fullPathname"},
      {entry("0100644", "a"), "zeroPaddedFilemode"},
      {entry("100644", "a") + entry("100644", "a"), "duplicateEntries"},
  };
  for (auto& [bytes, rule] : trees) {
    Oid tree = raw_object("tree", bytes), head = raw_commit(tree);
    std::string answer = send_commit(head, pack_of({head, tree, blob}));
    EXPECT_THAT(answer, HasSubstr(tree)) << rule;
    EXPECT_THAT(answer, HasSubstr(rule));
    EXPECT_THAT(answer, HasSubstr("ng refs/heads/evil"));
  }
  EXPECT_FALSE(store.resolve(repo, "evil"));
}

TEST_F(Push, IncompleteAndDamagedPacksAreRefused) {
  Oid blob = raw_object("blob", "y"),
      tree = raw_object("tree", "100644 a" + std::string(1, '\0') + raw_oid(blob)),
      head = raw_commit(tree);
  for (auto& oids : std::vector<std::vector<Oid>>{{head}, {head, tree}, {tree, blob}})
    EXPECT_THAT(send_commit(head, pack_of(oids)), HasSubstr("ng refs/heads/evil"));
  std::string pack = pack_of({head, tree, blob});
  for (size_t length : {size_t{0}, size_t{5}, size_t{12}, pack.size() / 2, pack.size() - 1})
    EXPECT_THAT(send_commit(head, pack.substr(0, length)), HasSubstr("ng refs/heads/evil"));
  std::string damaged = pack;
  damaged[damaged.size() - 3] = char(damaged[damaged.size() - 3] ^ 1);
  EXPECT_THAT(send_commit(head, damaged), HasSubstr("ng refs/heads/evil"));
  EXPECT_THAT(send_commit(blob, pack), HasSubstr("expected a commit"));
  EXPECT_FALSE(store.resolve(repo, "evil"));
  EXPECT_THAT(send_commit(head, pack), HasSubstr("ok refs/heads/evil"));
  EXPECT_THAT(store.fsck(repo), IsEmpty());
}

TEST_F(Push, RequestsThatAreNone) {
  EXPECT_EQ(send("", ""), "");
  EXPECT_THROW(send("zzzz", ""), FormatError);
  EXPECT_THROW(send("0003", ""), FormatError);
  EXPECT_THROW(send("00ff too short", ""), FormatError);
  EXPECT_THROW(send(packet("nonsense"), ""), FormatError);
  EXPECT_THROW(send(packet("shallow " + kNoOid), ""), FormatError);
  EXPECT_THROW(store.advertise(repo, "git-evil", ""), ArgumentError);
  EXPECT_THAT(store.advertise(repo, "git-upload-pack", "version=2"), HasSubstr("version 2"));
  EXPECT_THAT(store.advertise(repo, "git-upload-pack", "version=2\nX=1"),
              HasSubstr("# service=git-upload-pack"));
  int64_t empty = add_repo(database, "empty");
  EXPECT_THAT(store.advertise(empty, "git-receive-pack", ""), HasSubstr("capabilities^{}"));
}

TEST_F(Push, AnEmptyRepositoryTakesAFirstPush) {
  int64_t empty = add_repo(database, "empty");
  GitServer other(store, empty);
  git_ok(folder.path(), {"clone", "-q", other.url, "fresh"});
  write_text(folder / "fresh/a", "1");
  git_ok(folder / "fresh", {"add", "a"});
  git_ok(folder / "fresh", {"commit", "-q", "-m", "a"});
  git_ok(folder / "fresh", {"push", "-q", "origin", "HEAD:main"});
  EXPECT_TRUE(store.resolve(empty, "main"));
}

TEST_F(Push, LimitsHold) {
  PushLimits limits;
  limits.objects = 5;
  GitStore few(database, blobs, folder / "cache", limits);
  Oid head = local_commit("a/b/c/d", "1");
  GitServer server_few(few, repo);
  EXPECT_THAT(git(work, {"push", server_few.url, "HEAD:refs/heads/x"}).output,
              HasSubstr("at most 5 are accepted"));
  limits = {};
  limits.pack_bytes = 100;
  GitStore small(database, blobs, folder / "cache", limits);
  GitServer server_small(small, repo);
  EXPECT_THAT(git(work, {"push", server_small.url, "HEAD:refs/heads/x"}).output,
              HasSubstr("larger than 100 bytes"));
  EXPECT_FALSE(store.resolve(repo, "x"));
}

std::string deflated(const std::string& text) {
  std::string out(compressBound(text.size()), '\0');
  uLongf size = out.size();
  compress2(reinterpret_cast<Bytef*>(out.data()), &size,
            reinterpret_cast<const Bytef*>(text.data()), text.size(), 9);
  out.resize(size);
  return out;
}

TEST(PackScanner, SeesBombsBeforeGitDoes) {
  std::string start("PACK\0\0\0\2\0\0\0\1", 12);
  auto scan = [&](const std::string& bytes, size_t piece) {
    PackScanner scanner(10, 1 << 20, 1 << 19);
    for (size_t at = 0; at < bytes.size(); at += piece)
      scanner.feed(std::string_view(bytes).substr(at, piece));
  };
  std::string trailer(20, 'x'), five = start + char(0x35) + deflated("hello") + trailer;
  // A delta of 10 bytes that says it makes 1 TB, and a blob that says 1 TB.
  std::string delta = start + char(0x7a) + std::string(20, 'b') +
                      deflated(std::string("\5\x80\x80\x80\x80\x80\x20xyz", 11)) + trailer;
  std::string blob = start + "\xb0\x80\x80\x80\x80\x80\x80\x20" + deflated("hello") + trailer;
  std::string liar = start + char(0x35) + deflated(std::string(1 << 18, 'x')) + trailer;
  for (size_t piece : {1, 3, 1000}) {
    EXPECT_NO_THROW(scan(five, piece));
    EXPECT_THROW(scan(five + "y", piece), FormatError);
    EXPECT_THROW(scan(delta, piece), FormatError);
    EXPECT_THROW(scan(blob, piece), FormatError);
    EXPECT_THROW(scan(liar, piece), FormatError);
    EXPECT_THROW(scan("PACK" + std::string("\0\0\0\2\0\0\1\0", 8), piece), FormatError);
    EXPECT_THROW(scan("KCAP", piece), FormatError);
  }
}

// Sockets of clients and of the listener come from libraries that do not mark them: a child that
// outlives us would keep their connections and the port.
TEST(Child, HasNoneOfOurFiles) {
  TemporaryFolder folder;
  FileDescriptor file(open((folder / "ours").c_str(), O_RDWR | O_CREAT, 0600));
  ASSERT_GE(file.get(), 0);
  std::string list =
      git_output({{"-c", "alias.files=!ls -l /proc/self/fd", "files"}, folder.path()});
  EXPECT_NE(list.find("/proc/"), list.npos) << list;
  EXPECT_EQ(list.find("ours"), list.npos) << list;
}

TEST(Child, IsKilledWhenItHangsAndTalksBothWays) {
  TemporaryFolder folder;
  git_ok(folder.path(), {"init", "-q", "--bare", "."});
  GitCall call{{"-c", "alias.hang=!sleep 3000", "hang"}, folder.path()};
  call.silence = std::chrono::seconds(1);
  EXPECT_TRUE(run_git(call).timed_out);
  std::string big(3 << 20, 'x');
  EXPECT_EQ(git_output({{"-c", "alias.cat=!cat", "cat"}, folder.path(), {}, read_from(big)}), big);
  EXPECT_THROW(git_output({{"no-such-command"}, folder.path()}), Error);
  GitCall throwing{{"-c", "alias.cat=!cat", "cat"}, folder.path(), {}, read_from(big)};
  throwing.output = [](std::string_view) { throw IoError("client left"); };
  EXPECT_THROW(run_git(throwing), IoError);
}

}  // namespace
}  // namespace pretrained::server
