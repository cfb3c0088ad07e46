#pragma once
// Everything for an application.
#include "pretrained/base/error.h"
#include "pretrained/hub/client.h"
#include "pretrained/hub/download.h"
#include "pretrained/hub/login.h"
#include "pretrained/hub/upload.h"
#include "pretrained/model.h"
#include "pretrained/model/auto.h"
#include "pretrained/model/no_init.h"
#include "pretrained/nn/create_model.h"
#include "pretrained/nn/timm_resnet.h"
#include "pretrained/vision/image.h"
#include "pretrained/vision/image_processor.h"
