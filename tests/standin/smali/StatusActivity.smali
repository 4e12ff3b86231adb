# The app's screen, empty.
.class public final Ldev/litertharness/StatusActivity;
.super Landroid/app/Activity;
.source "StatusActivity.smali"

.method public constructor <init>()V
    .registers 1
    invoke-direct {p0}, Landroid/app/Activity;-><init>()V
    return-void
.end method
