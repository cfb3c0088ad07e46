#include <gmock/gmock.h>

#include <algorithm>
#include <fstream>

#include "pretrained/hub/upload.h"

namespace pretrained::hub {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class Secrets : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(testing::TempDir()) / ("secrets-" + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::vector<std::string> find(const std::string& text, const std::string& name = "notes.txt") {
    std::ofstream(folder_ / "file", std::ios::binary) << text;
    return find_secrets(folder_ / "file", name);
  }
  std::filesystem::path folder_;
};

// Put together here, so that this file is none of what it tests.
const std::string kTail = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3hJ6kM9";
const std::string kKeyBody = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7";

TEST_F(Secrets, ATokenIsNamedByFileAndLineAndNeverShown) {
  auto found = find("one\ntwo\n{\"token\": \"hf_" + kTail + "\"}\n", "config.json");
  ASSERT_THAT(found, ElementsAre("config.json: line 3: an access token of a hub (hf_…)"));
  EXPECT_THAT(found[0], Not(HasSubstr(kTail.substr(0, 4))));
}

TEST_F(Secrets, EachKindIsKnown) {
  const std::string aws = "AKIA", slack = "xoxb-";
  for (const std::string& text :
       {aws + "IOSFODNN7QXZWVLK", "ghp_" + kTail, "github_pat_" + kTail + kTail, "sk-proj-" + kTail,
        slack + "123456789012-123456789012-" + kTail})
    EXPECT_EQ(find("key = " + text + "\n").size(), 1u) << text;
  for (std::string kind : {"", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "})
    EXPECT_EQ(find("-----BEGIN " + kind + "PRIVATE KEY-----\n" + kKeyBody + "\n").size(), 1u);
  EXPECT_EQ(find("{\"key\": \"-----BEGIN PRIVATE KEY-----\\n" + kKeyBody + "\\n\"}").size(), 1u);
}

TEST_F(Secrets, SomeFilesAreSecretsByTheirNames) {
  EXPECT_EQ(find("x", "keys/id_rsa").size(), 1u);
  EXPECT_EQ(find("machine a login b password c", "home/.netrc").size(), 1u);
  EXPECT_EQ(find("https://u:p@host", ".git-credentials").size(), 1u);
  EXPECT_EQ(find("[me]\nhf_token = x", "stored_tokens").size(), 1u);
  EXPECT_THAT(find("A=1\nWANDB_API_KEY=0123456789abcdef\n", ".env"),
              ElementsAre(".env: line 2: a secret setting"));
}

TEST_F(Secrets, OrdinaryTextIsNone) {
  EXPECT_THAT(find("Set HF_TOKEN=hf_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx, or hf_... as you like"),
              IsEmpty());
  EXPECT_THAT(find("AKIAIOSFODNN7EXAMPLE is the key of AWS's manual"), IsEmpty());
  EXPECT_THAT(find("sk-learn-compatible-estimators-and-other-words-of-a-sentence"), IsEmpty());
  EXPECT_THAT(find("A key begins with -----BEGIN PRIVATE KEY----- and ends with -----END …"),
              IsEmpty());
  EXPECT_THAT(find("-----BEGIN PUBLIC KEY-----\n" + kKeyBody), IsEmpty());
  EXPECT_THAT(find("self_" + kTail + " half_" + kTail), IsEmpty());  // inside a word
  EXPECT_THAT(find("OPENAI_API_KEY=<your key here>\nDEBUG=1\n", ".env"), IsEmpty());
  EXPECT_THAT(find("API_KEY=0123456789abcdef", ".env.example"), IsEmpty());
}

TEST_F(Secrets, LongTextsAreReadToTheirEnd) {
  std::string line = std::string(99, '.') + "\n", text;
  while (text.size() < (9 << 20)) text += line;
  std::string key = "-----BEGIN PRIVATE KEY-----\n" + kKeyBody;
  // At every place where one piece may end and the next begin.
  for (size_t at : {size_t(4) << 20, (size_t(4) << 20) + 8193, text.size()})
    for (size_t before : {0, 1, 3, 20, 44}) {
      std::string with = text;
      with.replace(at - before - 1, 1, " ").insert(at - before, "hf_" + kTail + "\n" + key);
      auto number = 1 + std::count(with.begin(), with.begin() + long(at - before), '\n');
      EXPECT_THAT(find(with),
                  ElementsAre("notes.txt: line " + std::to_string(number) +
                                  ": an access token of a hub (hf_…)",
                              "notes.txt: line " + std::to_string(number + 1) + ": a private key"))
          << at << " " << before;
    }
  EXPECT_THAT(find(text), IsEmpty());
  EXPECT_THAT(find(text.substr(0, (4 << 20) - 1) + "xhf_" + kTail), IsEmpty());
}

TEST_F(Secrets, BinaryFilesAreNotRead) {
  std::string weights(8, '\0');
  EXPECT_THAT(find(weights + "hf_" + kTail, "model.safetensors"), IsEmpty());
}

}  // namespace
}  // namespace pretrained::hub
