#include "pretrained/hub/model_card.h"

#include <gmock/gmock.h>

#include "pretrained/base/error.h"

namespace pretrained::hub {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(ModelCard, SaysWhatItIsAndHowToUseIt) {
  EXPECT_EQ(model_card({.repo_id = "org/cats",
                        .auto_class = "AutoModelForImageClassification",
                        .pipeline_tag = "image-classification",
                        .license = "apache-2.0",
                        .tags = {"timm"},
                        .dataset = "my/cats",
                        .epochs = "3",
                        .loss = "0.21",
                        .metrics = {{"accuracy", "0.93"}}}),
            R"(---
library_name: pretrained
license: "apache-2.0"
pipeline_tag: "image-classification"
tags:
- pretrained
- "timm"
---

# cats

## Use this model

```cpp
#include <pretrained/pretrained.h>

auto model = pretrained::AutoModelForImageClassification::from_pretrained("org/cats");
```

To have exactly these weights for ever, name the commit, which the page shows above its files: `.revision = "<commit>"`.

On the command line:

```sh
pretrained predict org/cats picture.jpg
```

## Training

| | |
|---|---|
| Dataset | my/cats |
| Epochs | 3 |
| Loss | 0.21 |
| accuracy | 0.93 |
)");
}

TEST(ModelCard, WhatIsNotKnownIsNotMentioned) {
  std::string card = model_card({.repo_id = "org/name"});
  EXPECT_THAT(card, Not(HasSubstr("license")));
  EXPECT_THAT(card, Not(HasSubstr("pipeline_tag")));
  EXPECT_THAT(card, Not(HasSubstr("Training")));
  EXPECT_THAT(card, HasSubstr("pretrained::AutoModel::from_pretrained(\"org/name\")"));
}

TEST(ModelCard, NothingBreaksTheFrontMatterOrBecomesMarkup) {
  const std::string evil = "x\n---\nlicense: mit\n<script>|\x1b[31m";
  std::string card = model_card({.repo_id = "org/name",
                                 .pipeline_tag = evil,
                                 .license = evil,
                                 .tags = {evil, "a\"b", "# c"},
                                 .dataset = evil,
                                 .metrics = {{evil, evil}}});
  size_t end = card.find("\n---\n");
  EXPECT_THAT(card.substr(0, end), HasSubstr("tags:"));  // the first end is ours
  EXPECT_THAT(card.substr(end + 1), Not(HasSubstr("\n---\n")));
  EXPECT_THAT(card.substr(end), Not(HasSubstr(" <script>")));
  EXPECT_THAT(card, Not(HasSubstr("\x1b")));
}

TEST(ModelCard, NamesThatCannotBeAreRefused) {
  EXPECT_THROW(model_card({.repo_id = "a\");system(\"x"}), ArgumentError);
  EXPECT_THROW(model_card({.repo_id = "a/b", .auto_class = "X; int y"}), ArgumentError);
}

}  // namespace
}  // namespace pretrained::hub
