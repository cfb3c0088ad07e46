#include "pretrained/code/trust.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/base/sha256.h"

namespace {

namespace fs = std::filesystem;
using namespace pretrained;
using code::TrustFile;

const std::string kCommit(40, 'a'), kOther(40, 'b');
const code::Sources kCode = {{"model.h", "int one;\n"}, {"sub/x.h", "int two;\n"}};
const code::Sources kChanged = {{"model.h", "int one;\n"}, {"sub/x.h", "int twO;\n"}};

class Trust : public testing::Test {
 protected:
  void SetUp() override {
    folder =
        fs::canonical(fs::temp_directory_path()) / ("pretrained-trust-" + std::to_string(getpid()));
    fs::remove_all(folder);
    fs::create_directories(folder);
    file = folder / "config/trust.json";
    setenv("PRETRAINED_TRUST_FILE", file.c_str(), 1);
  }
  void TearDown() override { fs::remove_all(folder); }

  CodeReview review(const code::Sources& sources, const std::string& commit = kCommit,
                    const std::string& repository = "org/model") {
    return code::review_code(repository, commit, sources, 1);
  }
  // "" where the code may run.
  std::string refusal(const TrustRemoteCode& trust, const CodeReview& review) {
    notices.clear();
    diff.clear();
    try {
      trust.require(review, [&](auto& line) { notices.push_back(line); });
      return "";
    } catch (const UntrustedCode& error) {
      EXPECT_EQ(error.exit_code(), 4);
      EXPECT_EQ(error.digest, review.digest);
      EXPECT_EQ(error.files.size(), review.files.size());
      diff = error.diff;
      return error.what();
    }
  }
  bool runs(const TrustRemoteCode& trust, const CodeReview& review) {
    return refusal(trust, review).empty();
  }

  fs::path folder, file;
  std::vector<std::string> notices;
  std::string diff;
};

TEST_F(Trust, NothingIsTrustedAtFirst) {
  EXPECT_EQ(refusal({}, review(kCode)),
            "org/model@" + kCommit +
                " holds C++ code that would be compiled and run: model.h, sub/x.h. Read it, then "
                "pass trust_remote_code = true (--trust-remote-code) if you trust it.");
  EXPECT_FALSE(runs(false, review(kCode)));
  EXPECT_FALSE(runs(TrustPolicy{}, review(kCode)));
  EXPECT_FALSE(fs::exists(file));
}

TEST_F(Trust, TrueTrustsTheseBytesAndNoOthers) {
  EXPECT_TRUE(runs(true, review(kCode)));
  ASSERT_EQ(notices.size(), 1u);
  EXPECT_EQ(notices[0],
            "trusted from now on: the C++ code of org/model@" + kCommit + " (model.h, sub/x.h)");
  EXPECT_TRUE(runs(true, review(kCode)));
  EXPECT_TRUE(notices.empty());
  EXPECT_TRUE(runs({}, review(kCode)));
  EXPECT_TRUE(runs({}, review(kCode, kOther))) << "the same bytes under another commit";
  EXPECT_FALSE(runs(false, review(kCode))) << "false means false";

  std::string message = refusal(true, review(kChanged, kOther));
  EXPECT_NE(message.find("is not the code that was trusted"), message.npos) << message;
  EXPECT_NE(message.find("pretrained trust add org/model@" + kOther), message.npos) << message;
  EXPECT_NE(message.find("commit " + kCommit), message.npos) << message;
  EXPECT_NE(diff.find("-int two;\n+int twO;\n"), diff.npos) << diff;
  EXPECT_FALSE(runs({}, review(kChanged, kOther)));
  EXPECT_TRUE(runs({}, review(kCode))) << "what was trusted stays so";
}

TEST_F(Trust, OneFlippedBitAnywhereIsOtherCode) {
  EXPECT_TRUE(runs(true, review(kCode)));
  for (size_t f = 0; f < kCode.size(); ++f)
    for (size_t i = 0; i < kCode[f].bytes.size(); ++i) {
      auto flipped = kCode;
      flipped[f].bytes[i] ^= 1;
      EXPECT_FALSE(runs(true, review(flipped))) << f << " " << i;
      EXPECT_NE(diff, "");
    }
  EXPECT_FALSE(runs(true, review({{"model.h", "int one;\n"}, {"sub/y.h", "int two;\n"}})));
  EXPECT_FALSE(runs(true, review({{"model.h", "int one;\nsub/x.hint two;\n"}})));
}

TEST_F(Trust, OfOneRepositoryIsNotThatOfAnother) {
  EXPECT_TRUE(runs(true, review(kCode)));
  EXPECT_FALSE(runs({}, review(kCode, kCommit, "0rg/model")));
  EXPECT_TRUE(runs(true, review(kCode, kCommit, "0rg/model")));
  EXPECT_TRUE(runs(true, review(kChanged, kCommit, "other/model")));
}

TEST_F(Trust, AddAndRevoke) {
  TrustFile trusted;
  EXPECT_TRUE(trusted.add(review(kCode), "command"));
  EXPECT_TRUE(trusted.add(review(kChanged, kOther), "command"));
  EXPECT_FALSE(trusted.add(review({}), "true", /*first=*/true));
  EXPECT_TRUE(runs({}, review(kCode)) && runs({}, review(kChanged)));
  auto entries = trusted.entries();
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].repository, "org/model");
  EXPECT_EQ(entries[0].commit, kCommit);
  EXPECT_EQ(entries[0].sha256, code::digest(kCode));
  EXPECT_EQ(entries[0].how, "command");
  EXPECT_EQ(entries[0].api_level, 1);
  EXPECT_EQ(entries[0].when.size(), 20u);

  EXPECT_EQ(trusted.revoke("org/model", kOther).size(), 1u);
  EXPECT_FALSE(runs({}, review(kChanged)));
  EXPECT_FALSE(trusted.sources(code::digest(kChanged))) << "the code is gone too";
  EXPECT_EQ(trusted.revoke("org/mode"), std::vector<code::TrustEntry>{});
  EXPECT_EQ(trusted.revoke("org/model").size(), 1u);
  EXPECT_FALSE(runs({}, review(kCode)));
  EXPECT_TRUE(runs(true, review(kChanged))) << "nothing is known any more";
}

TEST_F(Trust, ACallbackDecidesAndSeesEverything) {
  int asked = 0;
  bool answer = false;
  TrustPolicy policy{.ask = [&](const CodeReview& seen) {
    ++asked;
    EXPECT_EQ(seen.name(), "org/model@" + kCommit);
    EXPECT_EQ(seen.files[1].bytes, "int two;\n");
    EXPECT_EQ(seen.digest, code::digest(kCode));
    EXPECT_EQ(seen.author, "Alice");
    return answer;
  }};
  auto complete = [](CodeReview& review) { review.author = "Alice"; };
  EXPECT_THROW(TrustRemoteCode(policy).require(review(kCode), {}, complete), UntrustedCode);
  answer = true;
  TrustRemoteCode(policy).require(review(kCode), {}, complete);
  TrustRemoteCode(policy).require(review(kCode), {}, complete);
  EXPECT_EQ(asked, 2) << "what is recorded is not asked again";
  EXPECT_EQ(TrustFile().entries()[0].how, "callback");
  EXPECT_FALSE(fs::exists(folder / "elsewhere.json"));

  std::string seen_diff;
  policy = {.ask = [&](const CodeReview& seen) { return seen_diff = seen.diff, false; }};
  EXPECT_FALSE(runs(policy, review(kChanged)));
  EXPECT_NE(seen_diff.find("+int twO;"), seen_diff.npos);

  policy = {.ask = [](auto&) -> bool { throw ArgumentError("the caller's own"); }};
  EXPECT_THROW(runs(policy, review(kChanged)), ArgumentError);
}

TEST_F(Trust, PoliciesNarrow) {
  auto yes = [](const CodeReview&) { return true; };
  EXPECT_TRUE(runs(TrustPolicy{.ask = yes, .repositories = {"my/*", "org/model"}}, review(kCode)));
  EXPECT_FALSE(runs(TrustPolicy{.ask = yes, .repositories = {"my/*"}}, review(kCode)))
      << "not even what is recorded";
  auto pinned = review(kCode);
  pinned.pinned = true;
  EXPECT_FALSE(runs(TrustPolicy{.require_commit = true}, review(kCode)));
  EXPECT_TRUE(runs(TrustPolicy{.require_commit = true}, pinned));
  EXPECT_TRUE(runs(TrustPolicy{.ask = yes, .record = false}, review(kChanged)));
  EXPECT_FALSE(runs({}, review(kChanged)));
  EXPECT_FALSE(runs(TrustPolicy{.record = false}, review(kCode)));
  EXPECT_FALSE(runs(TrustPolicy{.trust_file = folder / "other.json"}, review(kCode)));
}

TEST_F(Trust, TheFileIsPrivate) {
  EXPECT_TRUE(runs(true, review(kCode)));
  struct stat status{};
  for (auto& path : {file, fs::path(file.string() + ".code") / code::digest(kCode)}) {
    stat(path.c_str(), &status);
    EXPECT_EQ(status.st_mode & 0777, 0600u) << path;
  }
  for (auto& path : {file.parent_path(), fs::path(file.string() + ".code")}) {
    stat(path.c_str(), &status);
    EXPECT_EQ(status.st_mode & 0777, 0700u) << path;
  }
}

TEST_F(Trust, WhatOthersCouldHaveWrittenIsNotRead) {
  EXPECT_TRUE(runs(true, review(kCode)));
  chmod(file.c_str(), 0620);
  EXPECT_THROW(runs({}, review(kCode)), IoError);
  EXPECT_THROW(runs(true, review(kChanged)), IoError);
  chmod(file.c_str(), 0600);
  chmod(file.parent_path().c_str(), 0770);
  EXPECT_THROW(runs({}, review(kCode)), IoError);
  chmod(file.parent_path().c_str(), 0700);
  EXPECT_TRUE(runs({}, review(kCode)));

  fs::rename(file, folder / "config/real.json");
  fs::create_symlink("real.json", file);
  EXPECT_THROW(runs({}, review(kCode)), IoError);
  fs::remove(file);
  fs::create_directory(file);
  EXPECT_THROW(runs({}, review(kCode)), IoError);
  fs::remove(file);
  mkfifo(file.c_str(), 0600);
  EXPECT_THROW(runs({}, review(kCode)), IoError);
}

TEST_F(Trust, OfAnotherUserIsRefused) {
  if (geteuid() != 0) return;  // only root can make such a file
  EXPECT_TRUE(runs(true, review(kCode)));
  ASSERT_EQ(chown(file.c_str(), 12345, 12345), 0);
  EXPECT_THROW(runs({}, review(kCode)), IoError);
}

TEST_F(Trust, DamagedFilesGrantNothing) {
  EXPECT_TRUE(runs(true, review(kCode)));
  std::string good = read_file(file);
  auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    return text;
  };
  for (auto& text :
       {std::string(), std::string("[]"), std::string("{}"), good.substr(0, good.size() / 2),
        with("\"version\": 1", "\"version\": 2"), with("\"how\"", "\"who\""),
        with("\"api_level\": 1", "\"api_level\": -1"), with(kCommit, "main"),
        with(code::digest(kCode), "*"), with("\"org/model\"", "\"\""),
        with("\"org/model\"", "[\"org/model\"]"), with("\"version\"", "\"all\": true, \"version\""),
        with("\"trusted\": [", "\"trusted\": [null, ")}) {
    write_file_atomically(file, text, 0600);
    EXPECT_THROW(runs({}, review(kCode)), FormatError) << text;
    EXPECT_THROW(runs(true, review(kChanged)), FormatError) << text;
    EXPECT_THROW(TrustFile().add(review(kChanged), "command"), FormatError) << text;
    EXPECT_EQ(read_file(file), text) << "a damaged file is left for its owner to see";
  }
}

TEST_F(Trust, KeptCodeIsCheckedAgainstItsDigest) {
  EXPECT_TRUE(runs(true, review(kCode)));
  EXPECT_EQ(sha256_hex(code::frame_sources(kCode)), code::digest(kCode));
  fs::path kept = fs::path(file.string() + ".code") / code::digest(kCode);
  auto sources = TrustFile().sources(code::digest(kCode));
  ASSERT_TRUE(sources);
  EXPECT_EQ((*sources)[1].path, "sub/x.h");
  EXPECT_EQ((*sources)[1].bytes, "int two;\n");
  write_file_atomically(kept, code::frame_sources(kChanged), 0600);
  EXPECT_FALSE(TrustFile().sources(code::digest(kCode)));
  EXPECT_FALSE(runs(true, review(kChanged)));
  EXPECT_NE(diff.find("no longer kept"), diff.npos) << diff;
  EXPECT_TRUE(runs({}, review(kCode)));
}

TEST_F(Trust, FramesOfOtherBytesAreNone) {
  std::string frames = code::frame_sources(kCode);
  for (size_t size = 1; size < frames.size(); ++size)
    if (size != 8 + 7 + 8 + 9)  // the first file, whole
      EXPECT_FALSE(code::parse_frames(frames.substr(0, size))) << size;
  EXPECT_FALSE(code::parse_frames(std::string(16, '\xff')));
  EXPECT_EQ(code::parse_frames("")->size(), 0u);
}

TEST_F(Trust, FoldersOfAnyNameAreTold) {
  fs::path odd = folder / "a \"\xff\x1b[31m";
  fs::create_directories(odd);
  EXPECT_TRUE(runs(true, review(kCode, "", odd.string())));
  EXPECT_TRUE(runs({}, review(kCode, "", (odd / "../" / odd.filename()).string())));
  EXPECT_EQ(notices.size(), 0u);
  std::string name = TrustFile().entries()[0].repository;
  EXPECT_EQ(name.find('\x1b'), name.npos);
}

TEST_F(Trust, WithoutAPlaceNothingIsTrusted) {
  std::string home = getenv("HOME") ? getenv("HOME") : "";
  for (auto* name : {"PRETRAINED_TRUST_FILE", "XDG_CONFIG_HOME", "HOME"}) unsetenv(name);
  EXPECT_FALSE(runs({}, review(kCode)));
  EXPECT_THROW(runs(true, review(kCode)), IoError);
  setenv("HOME", (folder / "home").c_str(), 1);
  EXPECT_EQ(code::default_trust_file(), folder / "home/.config/pretrained/trust.json");
  setenv("XDG_CONFIG_HOME", (folder / "xdg").c_str(), 1);
  EXPECT_EQ(code::default_trust_file(), folder / "xdg/pretrained/trust.json");
  EXPECT_TRUE(runs(true, review(kCode)));
  EXPECT_TRUE(fs::exists(folder / "xdg/pretrained/trust.json"));
  unsetenv("XDG_CONFIG_HOME");
  setenv("HOME", home.c_str(), 1);
}

TEST_F(Trust, ManyAtOnceLoseNothing) {
  std::vector<std::thread> threads;
  std::atomic<int> first = 0;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&, i] {
      for (int k = 0; k < 5; ++k)
        TrustFile().add(review(kCode, kCommit, "org/m" + std::to_string(i * 5 + k)), "command");
      first += TrustFile().add(review({{"a.h", std::to_string(i)}}), "true", true);
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(TrustFile().entries().size(), 41u);
  EXPECT_EQ(first, 1) << "of different bytes met at the same time, one is the first";
}

}  // namespace
