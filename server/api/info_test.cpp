#include "server/api/testing.h"

namespace pretrained::server {
namespace {

class InfoTest : public HubTest {
 protected:
  InfoTest() {
    store(repo, weights);
    first = text_at(
        commit("alice/m", header_line("first") + file_line("README.md", "# hi\n") +
                              file_line("sub/config.json", "{}") +
                              file_line("sub/deep/x.txt", "x") + lfs_line("model.bin", weights))
            .json(),
        "commitOid");
    second =
        text_at(commit("alice/m", header_line("second") + file_line("README.md", "# ho\n")).json(),
                "commitOid");
  }
  std::string paths(const Answer& answer) {
    std::string all;
    Json json = answer.json();
    for (const auto& item : *json.get_if<Json::Array>()) all += text_at(item, "path") + " ";
    return all;
  }
  Json entry(const Json& list, const std::string& path) {
    for (const auto& item : *list.get_if<Json::Array>())
      if (text_at(item, "path") == path) return item;
    return nullptr;
  }
  Repo repo = make_repo("m");
  std::string weights = noise(20000), first, second;
};

TEST_F(InfoTest, WhatSnapshotDownloadAndTransformersNeed) {
  auto json = get("/api/models/alice/m").json();
  EXPECT_EQ(text_at(json, "id"), "alice/m");
  EXPECT_EQ(text_at(json, "modelId"), "alice/m");
  EXPECT_EQ(text_at(json, "author"), "alice");
  EXPECT_EQ(text_at(json, "sha"), second);
  EXPECT_EQ(text_at(json, "_id").size(), 24u);
  EXPECT_EQ(at(json, "private"), Json(false));
  EXPECT_EQ(at(json, "gated"), Json(false));
  EXPECT_EQ(at(json, "disabled"), Json(false));
  EXPECT_EQ(text_at(json, "lastModified").size(), 24u);
  EXPECT_EQ(text_at(json, "siblings.0.rfilename"), ".gitattributes");
  EXPECT_EQ(at(json, "siblings").get_if<Json::Array>()->size(), 5u);
  EXPECT_TRUE(at(json, "siblings.0.size").is_null());
  EXPECT_TRUE(at(json, "xetEnabled").is_null());
  EXPECT_EQ(text_at(get("/api/models/alice/m/revision/" + first).json(), "sha"), first);
  EXPECT_EQ(text_at(get("/api/models/alice/m/revision/HEAD").json(), "sha"), second);
}

TEST_F(InfoTest, BlobsExpandAndSecurityStatus) {
  auto json = get("/api/models/alice/m?blobs=true&securityStatus=true").json();
  EXPECT_EQ(text_at(json, "siblings.2.rfilename"), "model.bin");
  EXPECT_EQ(at(json, "siblings.2.size"), Json(20000));
  EXPECT_EQ(text_at(json, "siblings.2.lfs.sha256"), sha256_hex(weights));
  EXPECT_EQ(at(json, "siblings.2.lfs.pointerSize"), Json(130));
  EXPECT_EQ(text_at(json, "siblings.2.blobId").size(), 40u);
  EXPECT_EQ(at(json, "securityRepoStatus.scansDone"), Json(false));

  json = get("/api/models/alice/m/revision/main?expand=xetEnabled&expand=likes&expand=gguf").json();
  EXPECT_EQ(at(json, "xetEnabled"), Json(true));
  EXPECT_EQ(at(json, "likes"), Json(0));
  EXPECT_EQ(json.get_if<Json::Object>()->size(), 4u);  // and _id, id
  json = get("/api/models/alice/m?expand[]=sha").json();
  EXPECT_EQ(text_at(json, "sha"), second);
}

std::set<std::string> keys(const Json& object) {
  std::set<std::string> names;
  for (const auto& [name, value] : *object.get_if<Json::Object>()) names.insert(name);
  return names;
}

TEST_F(InfoTest, ExpandGivesWhatIsAskedForAndNothingElse) {
  commit("alice/m",
         header_line("facts") +
             file_line("README.md", "---\npipeline_tag: fill-mask\nwidget: [{text: a}]\n---\n") +
             file_line("config.json", R"({"architectures": ["BertForMaskedLM"],
                                          "model_type": "bert"})") +
             file_line("tokenizer_config.json", R"({"mask_token": "[MASK]"})"));
  std::string names;
  for (const char* name : {"transformersInfo", "mask_token", "widgetData", "securityRepoStatus",
                           "inferenceProviderMapping", "baseModels", "gguf", "resourceGroup"})
    names += std::string("&expand=") + name;
  std::set<std::string> expected = {"_id",
                                    "id",
                                    "transformersInfo",
                                    "mask_token",
                                    "widgetData",
                                    "securityRepoStatus",
                                    "inferenceProviderMapping"};
  for (auto json : {get("/api/models/alice/m?" + names).json(),
                    at(get("/api/models?author=alice" + names).json(), "0")}) {
    EXPECT_EQ(keys(json), expected);
    EXPECT_EQ(text_at(json, "transformersInfo.auto_model"), "AutoModelForMaskedLM");
    EXPECT_EQ(text_at(json, "transformersInfo.pipeline_tag"), "fill-mask");
    EXPECT_EQ(text_at(json, "mask_token"), "[MASK]");
    EXPECT_EQ(text_at(json, "widgetData.0.text"), "a");
  }
  auto listed = at(get("/api/models?expand=sha&expand=siblings").json(), "0");
  EXPECT_EQ(keys(listed), (std::set<std::string>{"_id", "id", "sha", "siblings"}));
  EXPECT_EQ(text_at(listed, "siblings.0.rfilename"), ".gitattributes");
  for (const char* unknown : {"nonsense", "mainSize", "sdk", ""}) {
    auto answer = get("/api/models/alice/m?expand=" + std::string(unknown));
    EXPECT_EQ(answer.status, 400) << unknown;
    EXPECT_EQ(get("/api/models?expand=" + std::string(unknown)).status, 400) << unknown;
  }
  make_repo("d", false, "dataset");
  EXPECT_EQ(get("/api/datasets/alice/d?expand=mainSize&expand=citation").status, 200);
  EXPECT_EQ(get("/api/datasets/alice/d?expand=safetensors").status, 400);
}

TEST_F(InfoTest, ListsHeedTheirParametersOrRefuseThem) {
  auto ids = [&](const std::string& target) {
    std::string all;
    Json json = get(target).json();
    for (const auto& item : *json.get_if<Json::Array>()) all += text_at(item, "id") + " ";
    return all;
  };
  Repo space = make_repo("s", false, "space");
  make_repo("t", false, "space");
  ASSERT_EQ(post("/api/spaces/alice/s/commit/main",
                 header_line("card") + file_line("README.md",
                                                 "---\nsdk: static\nmodels: [alice/m, x/y]\n"
                                                 "datasets: alice/d\n---\n"),
                 alice_token, {{"Content-Type", "application/x-ndjson"}})
                .status,
            200);
  EXPECT_EQ(ids("/api/spaces?models=alice/m"), "alice/s ");
  EXPECT_EQ(ids("/api/spaces?models=alice/m&models=x/y&datasets=alice/d"), "alice/s ");
  EXPECT_EQ(ids("/api/spaces?models=alice/m&models=z/z"), "");
  EXPECT_EQ(ids("/api/spaces?linked=True"), "alice/s ");
  EXPECT_EQ(ids("/api/spaces?sort=createdAt"), "alice/t alice/s ");
  EXPECT_EQ(ids("/api/models?search=alice&search=nothing"), "");
  EXPECT_EQ(ids("/api/models?search=alice&search=m&gated=false"), "alice/m ");
  for (const char* refused : {"apps=vllm", "inference=warm", "inference_provider=all",
                              "direction=2", "models=a", "author_name=x", "gated=maybe"})
    EXPECT_EQ(get("/api/models?" + std::string(refused)).status, 400) << refused;
}

TEST_F(InfoTest, NotFoundsHaveTheirCodes) {
  auto answer = get("/api/models/alice/m/revision/nope");
  EXPECT_EQ(answer.status, 404);
  EXPECT_EQ(answer.header("X-Error-Code"), "RevisionNotFound");
  answer = get("/api/models/alice/nope");
  EXPECT_EQ(answer.header("X-Error-Code"), "RepoNotFound");
  EXPECT_EQ(get("/api/datasets/alice/m").status, 404);
  answer = get("/api/models/alice/m/tree/main/nope");
  EXPECT_EQ(answer.status, 404);
  EXPECT_EQ(answer.header("X-Error-Code"), "EntryNotFound");
  EXPECT_EQ(answer.header("X-Repo-Commit"), second);
  make_repo("hidden", true);
  for (std::string rest : {"", "/revision/main", "/tree/main"}) {
    EXPECT_EQ(get("/api/models/alice/hidden" + rest).status, 404);
    EXPECT_EQ(get("/api/models/alice/hidden" + rest, bob_token).status, 404);
    EXPECT_EQ(get("/api/models/alice/hidden" + rest, alice_token).status, 200);
  }
}

TEST_F(InfoTest, Tree) {
  EXPECT_EQ(paths(get("/api/models/alice/m/tree/main")), ".gitattributes README.md model.bin sub ");
  EXPECT_EQ(paths(get("/api/models/alice/m/tree/main/sub")), "sub/config.json sub/deep ");
  auto all = get("/api/models/alice/m/tree/main?recursive=true").json();
  auto model = entry(all, "model.bin");
  EXPECT_EQ(text_at(model, "type"), "file");
  EXPECT_EQ(at(model, "size"), Json(20000));
  EXPECT_EQ(text_at(model, "lfs.oid"), sha256_hex(weights));
  EXPECT_EQ(text_at(model, "xetHash"),
            content.object(repo.access.id, sha256_hex(weights))->xet_hash.hex());
  EXPECT_TRUE(at(entry(all, "README.md"), "xetHash").is_null());
  EXPECT_TRUE(at(entry(all, "README.md"), "lastCommit").is_null());
  EXPECT_EQ(text_at(entry(all, "sub"), "type"), "directory");
  EXPECT_EQ(at(entry(all, "sub"), "size"), Json(0));
  EXPECT_FALSE(entry(all, "sub/deep/x.txt").is_null());
}

TEST_F(InfoTest, TreeWithLastCommits) {
  auto all = get("/api/models/alice/m/tree/main?recursive=true&expand=true").json();
  EXPECT_EQ(text_at(entry(all, "README.md"), "lastCommit.id"), second);
  EXPECT_EQ(text_at(entry(all, "README.md"), "lastCommit.title"), "second");
  EXPECT_EQ(text_at(entry(all, "sub/config.json"), "lastCommit.id"), first);
  EXPECT_EQ(text_at(entry(all, "sub"), "lastCommit.id"), first);
  EXPECT_EQ(text_at(entry(all, "README.md"), "securityFileStatus.status"), "unscanned");
}

TEST_F(InfoTest, TreeInPages) {
  std::string target = "/api/models/alice/m/tree/main?recursive=true&limit=2", all;
  int pages = 0;
  while (!target.empty() && ++pages < 10) {
    auto answer = get(target);
    all += paths(answer);
    std::string link = answer.header("Link");
    EXPECT_TRUE(link.empty() || link.ends_with(">; rel=\"next\"")) << link;
    target = link.empty() ? "" : local(link.substr(1, link.find('>') - 1));
  }
  EXPECT_EQ(all, paths(get("/api/models/alice/m/tree/main?recursive=true")));
  EXPECT_EQ(pages, 4);
  EXPECT_EQ(get("/api/models/alice/m/tree/main?limit=0").status, 400);
  EXPECT_EQ(get("/api/models/alice/m/tree/main?limit=x").status, 400);
}

TEST_F(InfoTest, RevisionsWithSlashesQuotedOrNot) {
  ASSERT_EQ(post("/api/models/alice/m/branch/dev%2Fx", "{}", alice_token).status, 200);
  EXPECT_EQ(paths(get("/api/models/alice/m/tree/dev%2Fx/sub")), "sub/config.json sub/deep ");
  EXPECT_EQ(paths(get("/api/models/alice/m/tree/dev/x/sub")), "sub/config.json sub/deep ");
  EXPECT_EQ(paths(get("/api/models/alice/m/tree/dev/x")),
            ".gitattributes README.md model.bin sub ");
  EXPECT_EQ(get("/api/models/alice/m/tree/dev/y").status, 404);
}

TEST_F(InfoTest, PathsInfoAsFormAndAsJson) {
  auto form = post("/api/models/alice/m/paths-info/main",
                   "paths=model.bin&paths=nope&paths=sub&expand=True", "",
                   {{"Content-Type", "application/x-www-form-urlencoded"}});
  EXPECT_EQ(paths(form), "model.bin sub ");
  EXPECT_EQ(text_at(form.json(), "0.lastCommit.id"), first);
  auto json = post("/api/models/alice/m/paths-info/main",
                   R"({"paths":["README.md","sub/deep/"],"expand":false})");
  EXPECT_EQ(paths(json), "README.md sub/deep ");
  EXPECT_TRUE(at(json.json(), "0.lastCommit").is_null());
  for (const char* bad : {"{}", R"({"paths":1})", R"({"paths":[1]})", "{"})
    EXPECT_EQ(post("/api/models/alice/m/paths-info/main", bad).status, 400) << bad;
}

TEST_F(InfoTest, HostilePathsFindNothing) {
  for (std::string path : {".git%2Fconfig", ".git", "%2Fetc%2Fpasswd", "sub%5C..%5CREADME.md"}) {
    int status = get("/api/models/alice/m/tree/main/" + path).status;
    EXPECT_TRUE(status == 404 || status == 400) << path << status;
  }
  auto answer = post("/api/models/alice/m/paths-info/main",
                     R"({"paths":["../x","/etc/passwd",".git/config","a\u0000b","//",""]})");
  EXPECT_TRUE(answer.status == 200 ? answer.body == "[]" : answer.status == 400) << answer.body;
}

}  // namespace
}  // namespace pretrained::server
