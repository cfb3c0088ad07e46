#pragma once
// What a shared model file includes: PretrainedConfig and PreTrainedModel. Thin on purpose: it is
// parsed whenever shared code is compiled.
#include "pretrained/model/config.h"
#include "pretrained/model/modeling.h"
