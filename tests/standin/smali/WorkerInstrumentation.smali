# What `am instrument` starts: the least that Android takes for one.
.class public final Ldev/litertharness/WorkerInstrumentation;
.super Landroid/app/Instrumentation;
.source "WorkerInstrumentation.smali"

.method public constructor <init>()V
    .registers 1
    invoke-direct {p0}, Landroid/app/Instrumentation;-><init>()V
    return-void
.end method

.method public onCreate(Landroid/os/Bundle;)V
    .registers 2
    invoke-super {p0, p1}, Landroid/app/Instrumentation;->onCreate(Landroid/os/Bundle;)V
    invoke-virtual {p0}, Ldev/litertharness/WorkerInstrumentation;->start()V
    return-void
.end method
