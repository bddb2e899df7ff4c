"""Addresses of the console. People's numbers stand in them (a job's number, a node's name), never row ids but tokens'."""

from __future__ import annotations

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from clusteros.console.views import cluster, generations, job, jobs, nodes, system, tokens

app_name = "console"

urlpatterns = [
    path("login/", LoginView.as_view(template_name="console/login.html", redirect_authenticated_user=True), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("", cluster.cluster, name="cluster"),
    path("part/<slug:part>/", cluster.cluster_part, name="cluster_part"),
    path("nodes/", nodes.nodes, name="nodes"),
    path("nodes/part/", nodes.nodes_part, name="nodes_part"),
    path("nodes/join/", nodes.join_token, name="join_token"),
    path("nodes/<str:name>/", nodes.node, name="node"),
    path("nodes/<str:name>/part/", nodes.node_part, name="node_part"),
    path("nodes/<str:name>/figures/", nodes.node_figures, name="node_figures"),
    path("nodes/<str:name>/drain/", nodes.drain_dialog, name="drain_dialog"),
    path("nodes/<str:name>/drain/now/", nodes.drain, name="drain"),
    path("nodes/<str:name>/undrain/", nodes.undrain, name="undrain"),
    path("store/", system.store, name="store"),
    path("store/part/", system.store_part, name="store_part"),
    path("events/", system.events, name="events"),
    path("events/part/", system.events_part, name="events_part"),
    path("users/", system.users, name="users"),
    path("users/<str:name>/active/", system.user_active, name="user_active"),
    path("about/", system.about, name="about"),
    path("figures/", system.figures, name="figures"),
    path("tokens/", tokens.tokens, name="tokens"),
    path("tokens/<int:token_id>/revoke/", tokens.revoke, name="revoke"),
    path("jobs/", jobs.jobs, name="jobs"),
    path("jobs/part/", jobs.jobs_part, name="jobs_part"),
    path("jobs/many/<slug:verb>/", jobs.many, name="many"),
    path("jobs/new/", jobs.submit, name="submit"),
    path("jobs/<int:number>/", job.job_page, name="job"),
    path("jobs/<int:number>/part/<slug:part>/", job.job_part, name="job_part"),
    path("jobs/<int:number>/log/", job.log_tail, name="log_tail"),
    path("jobs/<int:number>/log/find/", job.log_find, name="log_find"),
    path("jobs/<int:number>/log/text/", job.log_text, name="log_text"),
    path("jobs/<int:number>/pictures/<int:pod>/<path:path>", job.picture, name="picture"),
    path("jobs/<int:number>/files/<int:pod>/<path:path>", job.output_file, name="output_file"),
    path("jobs/<int:number>/cancel/", job.cancel_dialog, name="cancel_dialog"),
    path("jobs/<int:number>/do/<slug:verb>/", job.do_verb, name="job_do"),
    path("jobs/<int:number>/store/", generations.store_dialog, name="store_dialog"),
    path("jobs/<int:number>/keep/", generations.retention_dialog, name="retention_dialog"),
    path("jobs/<int:number>/keep/now/", generations.retention, name="retention"),
    path("jobs/<int:number>/checkpoint/", generations.checkpoint, name="checkpoint"),
    path("jobs/<int:number>/generations/<int:generation>/rollback/", generations.rollback_dialog, name="rollback_dialog"),
    path("jobs/<int:number>/generations/<int:generation>/rollback/now/", generations.rollback, name="rollback"),
    path("jobs/<int:number>/generations/<int:generation>/copy/", generations.copy_dialog, name="copy_dialog"),
    path("jobs/<int:number>/generations/<int:generation>/copy/now/", generations.copy, name="copy"),
    path("jobs/<int:number>/generations/<int:generation>/inside/", generations.inside_dialog, name="inside"),
    path("jobs/<int:number>/generations/<int:generation>/core/<int:pod>/<int:pid>/", generations.core, name="core"),
    path("jobs/<int:number>/generations/<int:generation>/export/", generations.export, name="export"),
    path("jobs/<int:number>/generations/<int:generation>/pin/", generations.pin, name="pin"),
    path("jobs/<int:number>/generations/<int:generation>/delete/", generations.delete_dialog, name="delete_dialog"),
    path("jobs/<int:number>/generations/<int:generation>/freed/", generations.freed, name="freed"),
    path("jobs/<int:number>/generations/<int:generation>/delete/now/", generations.delete, name="delete"),
]
